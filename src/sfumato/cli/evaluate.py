"""`sfumato evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .by_method import command_by_method
from .shared import (
    DataOption,
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
    say,
    use_threads,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("evaluate", cls=command_by_method({"text_guided": ".text.evaluate"}))(evaluate)


def evaluate(
    method: Annotated[
        str,
        typer.Argument(
            help="A folder of `sfumato fit`, or a shipped pair; `text_guided` has a --help of its own."
        ),
    ],
    data: DataOption,
    split: Annotated[str, typer.Option(help="train, calibration or test.")] = "test",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for results.json and results.csv.")
    ] = None,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    instances: InstancesOption = False,
    resample: ResampleOption = False,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    allow_pickle: PickleOption = False,
    json_output: JsonOption = False,
) -> None:
    """Judge a fitted method on labelled cases: three regions side by side, with intervals over patients.

    Example: sfumato evaluate runs/hippo-swu --data DATA --split test --json
    """
    from ..datasets.splits import PATIENT_PATTERN
    from ..runs.evaluate import evaluate_method
    from ..weights import find_method

    use_threads(threads)
    _, chosen = open_data(data, splits, patient)
    with case_progress(f"evaluate {split}") as note:
        results = evaluate_method(
            find_method(method),
            data,
            split,
            out,
            chosen,
            instances,
            resample,
            patient or PATIENT_PATTERN,
            seed,
            note,
            allow_pickle,
        )
    for problem in results["problems"]:
        say(f"left out: {problem}")
    if json_output:
        emit(results)
    else:
        _table(results)
    if results["problems"]:
        raise typer.Exit(1)


def _table(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    dice = results["dice"]
    console.print(
        f"{results['method']} on {results['cases']} {results['split']} cases of {results['patients']} patients: "
        f"Dice {_span(dice['mean'])}, voxels whose probability prefers another label: {dice['relabelled_voxels']}"
    )
    table = Table(
        "region", "metric", "softmax entropy", results["method"], "difference", "pooled entropy", "pooled"
    )
    for region, numbers in results["regions"].items():
        for metric in ("auroc", "auprc", "aurc", "augrc", "ece", "brier", "nll"):
            per_case, pooled = numbers["per_case"][metric], numbers["pooled"]
            table.add_row(
                region,
                metric.upper(),
                _span(per_case["entropy"]),
                _span(per_case["method"]),
                _span(numbers["method_minus_entropy"][metric]),
                _number(pooled["entropy"][metric]),
                _number(pooled["method"][metric]),
            )
        table.add_section()
    console.print(table)
    level = results["case_level"]
    console.print(
        f"case level ({level['score']} score against 1 - Dice): Spearman {_number(level['spearman'])}, "
        f"AURC {_number(level['aurc'])} (at random {_number(level['aurc_at_random'])})"
    )
    if "decision" in level:
        rule = level["decision"]
        console.print(
            f"decision: {rule['coverage']:.0%} accepted with mean 1 - Dice {_number(rule['risk_of_accepted'])} "
            f"(wanted {rule['target_risk']:g}), the others {_number(rule['risk_of_reviewed'])}"
        )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.5f}"


def _span(interval: dict[str, Any]) -> str:
    if interval["mean"] is None:
        return "undefined"
    return f"{_number(interval['mean'])} [{_number(interval['low'])}, {_number(interval['high'])}]"
