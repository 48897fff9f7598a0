"""`sfumato compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .shared import (
    DataOption,
    DeviceOption,
    InstancesOption,
    JsonOption,
    PatientOption,
    PickleOption,
    ResampleOption,
    SeedOption,
    SplitsOption,
    ThreadsOption,
    case_progress,
    emit,
    open_data,
    parse_settings,
    say,
    use_threads,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare")(compare)


def compare(
    segmenter: Annotated[
        str,
        typer.Option(
            help="A folder of `sfumato train` or `sfumato fit`, a shipped pair, or what `fit` reads."
        ),
    ],
    data: DataOption,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for methods, cases and tables; resumed if it exists.")
    ],
    methods: Annotated[
        str, typer.Option(help="Names separated by commas, or `all`; softmax is always among them.")
    ] = "all",
    fitted: Annotated[
        list[Path] | None,
        typer.Option("--fitted", help="A method fitted before on the same segmenter; may be repeated."),
    ] = None,
    members: Annotated[
        list[str] | None,
        typer.Option("--members", help="A further network, for deep_ensemble; may be repeated."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting as method.name=value; may be repeated."),
    ] = None,
    corrupt: Annotated[
        str,
        typer.Option(
            help="Repeat under shift: noise, blur, bias, ghost, motion, contrast, resolution, inversion, crop, "
            "by commas."
        ),
    ] = "",
    severities: Annotated[
        str, typer.Option(help="Of the corruptions: 1 mild, 2 middle, 3 severe.")
    ] = "1,2,3",
    split: Annotated[str, typer.Option(help="The cases that judge: train, calibration or test.")] = "test",
    limit: Annotated[int, typer.Option(help="Judge only the first cases of the split; 0 takes all.")] = 0,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap over patients.")] = 1000,
    max_ram: Annotated[
        float | None, typer.Option(help="GiB a case may take; methods share a pass as far as that allows.")
    ] = None,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    instances: InstancesOption = False,
    resample: ResampleOption = False,
    device: DeviceOption = "cpu",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    allow_pickle: PickleOption = False,
    json_output: JsonOption = False,
) -> None:
    """Compare uncertainty methods on one frozen segmenter: fitted alike, judged on the same cases, with intervals.

    The segmenter runs once per image for all methods that need one pass. A killed run goes on where it stopped when
    the same command is given again.

    Example: sfumato compare --segmenter runs/hippo --methods softmax,temperature_scaling,perturbation_head --data DATA
    --out runs/compare
    """
    from ..datasets.corruption import parse_corruptions
    from ..datasets.splits import PATIENT_PATTERN
    from ..runs.compare import CompareConfig, compare_methods
    from ..runs.fit import FitOptions
    from ..weights import find_segmenter

    use_threads(threads)
    _, chosen = open_data(data, splits, patient)
    config = CompareConfig(
        find_segmenter(segmenter),
        data,
        out,
        _names(methods, bool(members)),
        tuple(fitted or ()),
        _settings(setting or []),
        tuple(find_segmenter(m) for m in members or ()),
        split,
        chosen,
        parse_corruptions(corrupt, severities),
        limit,
        max_ram,
        resamples,
        FitOptions(instances=instances, resample=resample, seed=seed, device=device),
        patient or PATIENT_PATTERN,
        allow_pickle,
    )
    with case_progress("compare") as note:
        results = compare_methods(config, note, say)
    for problem in results["problems"]:
        say(f"left out: {problem}")
    if json_output:
        emit(results)
    else:
        _show(results, out)
    if results["problems"]:
        raise typer.Exit(1)


def _names(text: str, members: bool) -> tuple[str, ...]:
    from ..registry import get_method, list_methods

    if text == "all":
        specs = [get_method(name) for name in list_methods()]
        return tuple(s.name for s in specs if not s.prompt and (members or not s.networks))
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _settings(pairs: list[str]) -> dict[str, dict[str, Any]]:
    from ..errors import ConfigError

    found: dict[str, dict[str, Any]] = {}
    for name, value in parse_settings(pairs).items():
        method, separator, setting = name.partition(".")
        if not separator or not setting:
            raise ConfigError(
                f"--set {name}=..., expected method.name=value, as in perturbation_head.steps=200."
            )
        found.setdefault(method, {})[setting] = value
    return found


def _show(results: dict[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..runs.compare.tables import NAMES, number, span

    clean = results["conditions"]["clean"]
    console = Console()
    table = Table(
        "method", *(NAMES[m] for m in ("auroc", "aurc", "ece")), "AURC minus entropy's", "Spearman", "CPU s"
    )
    for label, entry in clean["regions"]["near"].items():
        difference = entry["difference"]["aurc"] if entry["difference"] else None
        table.add_row(
            label,
            *(span(entry["per_case"][m]) for m in ("auroc", "aurc", "ece")),
            span(difference) if difference else "",
            number(clean["case_level"][label]["spearman"]["mean"]),
            f"{results['methods'][label]['cost']['cpu_seconds']:.2f}",
        )
    console.print(f"{results['cases']} {results['split']} cases, voxels within 5 of the foreground:")
    console.print(table)
    say(f"tables: {out}/results.md, page: {out}/index.html")
