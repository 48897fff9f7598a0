"""What several commands share: options, progress, machine output."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigError

if TYPE_CHECKING:
    from ..datasets import Dataset, Splits

DataOption = Annotated[
    Path,
    typer.Option("--data", help="Data set folder: images/ and masks/, or nnU-Net raw (imagesTr, labelsTr)."),
]
SplitsOption = Annotated[
    Path | None,
    typer.Option("--splits", help='JSON file {"train": [...], "calibration": [...], "test": [...]}.'),
]
PatientOption = Annotated[
    str | None,
    typer.Option("--patient", help="Regular expression; its first group names the patient in a case name."),
]
ThreadsOption = Annotated[int, typer.Option("--threads", help="Processor threads; 0 takes all.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
InstancesOption = Annotated[
    bool, typer.Option("--instances", help="Label files number objects; every value above 0 is foreground.")
]
ResampleOption = Annotated[
    bool,
    typer.Option("--resample", help="Accept sheared axes or contradictory qform and sform by resampling."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Of everything random.")]
PickleOption = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Load pickled weights; they can run code, so only from people you trust."
    ),
]


def say(line: str) -> None:
    """One line for people, never mixed with machine output."""
    print(line, file=sys.stderr, flush=True)


def emit(content: dict[str, Any]) -> None:
    """One JSON object on standard output."""
    print(json.dumps(content, indent=2, ensure_ascii=False))


def open_data(data: Path, splits_file: Path | None, patient: str | None) -> tuple[Dataset, Splits | None]:
    """The data set, and the splits of the file if one was named."""
    from ..datasets import open_dataset
    from ..datasets.splits import PATIENT_PATTERN

    dataset = open_dataset(data, patient or PATIENT_PATTERN)
    return dataset, dataset.splits(splits_file) if splits_file else None


def parse_settings(pairs: list[str], option: str = "--set") -> dict[str, Any]:
    """`name=value` pairs of an option; values are JSON where they parse as such, else text.

    Example:
        >>> parse_settings(["epochs=3", "patterns=hadamard", "taps=[1, 2]"])
        {'epochs': 3, 'patterns': 'hadamard', 'taps': [1, 2]}
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise ConfigError(f"{option} {pair!r}, expected name=value.")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def use_threads(threads: int) -> None:
    """Limit torch to so many processor threads; 0 leaves it as it is."""
    if threads:
        import torch

        torch.set_num_threads(threads)


def tell_fitted(record: Mapping[str, Any], out: Path, following: str, json_output: bool) -> None:
    """Say what a fit left out, which cases its rule accepts and the command that follows; exit 1 if any was left out.

    Args:
        record: of the fitted method.
        out: where it is.
        following: the command.
        json_output: for machines instead.
    """
    for problem in record["problems"]:
        say(f"left out: {problem}")
    rule = record["rules"]["case"]
    if json_output:
        emit({"out": str(out), "rules": record["rules"], "problems": record["problems"]})
    else:
        accepted = (
            f"{rule['coverage']:.0%} of calibration cases at mean 1 - Dice <= {rule['target_risk']:.3g}"
        )
        say(f"saved to {out}; accepts {accepted}")
        say(f"next: {following}")
    if record["problems"]:
        raise typer.Exit(1)


@contextmanager
def case_progress(title: str, total: int | None = None) -> Iterator[Any]:
    """A progress bar over cases on a terminal, one plain line per case elsewhere; yields `note(name, state)`."""
    if not sys.stderr.isatty():
        done = 0

        def plain(name: str, state: str = "done") -> None:
            nonlocal done
            if state != "start":
                done += 1
                say(f"{title}: {name} {state} ({done}{f' of {total}' if total else ''})")

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=total)

        def note(name: str, state: str = "done") -> None:
            progress.update(task, description=f"{title}: {name}")
            if state != "start":
                progress.advance(task)

        yield note
