"""`sfumato evaluate text_guided`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from ..shared import (
    JsonOption,
    PatientOption,
    SeedOption,
    SplitsOption,
    ThreadsOption,
    case_progress,
    emit,
    say,
    use_threads,
)

ARM_TITLES = {
    "sentence": "its sentence",
    "none": "no sentence",
    "paraphrase": "other words",
    "misspelt": "typing error",
    "contradiction": "a contradiction",
}


def alone() -> Any:
    """The command by itself, for `sfumato evaluate text_guided`."""
    app = typer.Typer(add_completion=False)
    app.command("evaluate")(evaluate)
    return typer.main.get_command(app)


def evaluate(
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            help="A folder of `sfumato train --method text_guided`, or of `sfumato fit` on one.",
        ),
    ],
    data: Annotated[
        Path,
        typer.Option("--data", help="Data set folder with sentences, or a table of images and sentences."),
    ],
    prompt_level: Annotated[
        str | None, typer.Option("--prompt-level", help="Of detail, where there are several, such as p6.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, calibration or test.")] = "test",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for results.json and results.csv.")
    ] = None,
    splits: SplitsOption = None,
    sides: Annotated[
        str, typer.Option("--sides", help="Whose left a sentence means on pictures: image or patient.")
    ] = "image",
    patient: PatientOption = None,
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Measure what sentences are worth: Dice with them, without, in other words, misspelt and contradicted.

    Example: sfumato evaluate text_guided --model runs/text --data DATA --prompt-level p6
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.text.evaluate import TextEvaluateOptions, evaluate_texts

    use_threads(threads)
    pattern = patient or PATIENT_PATTERN
    options = TextEvaluateOptions(split, prompt_level, splits, sides, pattern, seed)
    with case_progress(f"evaluate {split}") as note:
        results = evaluate_texts(model, data, options, out, note)
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
    console.print(f"{results['cases']} {results['split']} cases of {results['patients']} patients")
    table = Table("segmented with", "cases", "Dice", "lost", "IoU", "AUROC near", "ECE near", "ECE")
    for arm, numbers in results["arms"].items():
        spans = [_span(numbers[key]) for key in ("dice", "lost", "iou", "auroc")]
        errors = [_number(numbers[key]) for key in ("pooled_ece", "pooled_ece_whole")]
        table.add_row(ARM_TITLES[arm], str(numbers["dice"]["count"]), *spans, *errors)
    console.print(table)
    told = results["contradiction"]
    console.print(
        f"contradictions told from true sentences: AUROC {_number(told['auroc'])}; warned of "
        f"{_number(told['warned_of_contradictions'])} of them and of {_number(told['warned_of_true_sentences'])} of "
        "the true ones"
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _span(interval: dict[str, Any]) -> str:
    if interval["value"] is None:
        return "undefined"
    return f"{_number(interval['value'])} [{_number(interval['low'])}, {_number(interval['high'])}]"
