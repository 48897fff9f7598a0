"""`sfumato difficulty folds`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..shared import JsonOption, PatientOption, SeedOption, SplitsOption, emit, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("folds")(folds)


def folds(
    data: Annotated[Path, typer.Argument(help="Data set folder with labels.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for fold0.json, fold1.json, ...")],
    number: Annotated[int, typer.Option("--folds", help="How many parts the patients are dealt into.")] = 3,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    seed: SeedOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Write splits files for cross-validation, so that each case has a segmenter that was not trained on its patient.

    Example: sfumato difficulty folds DATA --folds 3 --out folds
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.difficulty.folds import write_folds

    written = write_folds(data, out, number, splits, patient or PATIENT_PATTERN, seed)
    if json_output:
        emit({"folds": [str(path) for path in written]})
        return
    for path in written:
        say(f"next: sfumato train --data {data} --splits {path} --out runs/{path.stem}")
