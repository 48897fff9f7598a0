"""`sfumato fit text_guided`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from ..shared import (
    DeviceOption,
    JsonOption,
    PatientOption,
    ResampleOption,
    SeedOption,
    SplitsOption,
    ThreadsOption,
    say,
    tell_fitted,
    use_threads,
)


def alone() -> Any:
    """The command by itself, for `sfumato fit text_guided`."""
    app = typer.Typer(add_completion=False)
    app.command("fit")(fit)
    return typer.main.get_command(app)


def fit(
    segmenter: Annotated[
        Path, typer.Option("--segmenter", help="A folder of `sfumato train --method text_guided`.")
    ],
    data: Annotated[
        Path,
        typer.Option("--data", help="Data set folder with sentences, or a table of images and sentences."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the fitted method.")],
    prompt_level: Annotated[
        str | None, typer.Option("--prompt-level", help="Of detail, where there are several, such as p6.")
    ] = None,
    sentence: Annotated[
        list[str] | None,
        typer.Option("--sentence", help="To compare each image's with, beside none; may be repeated."),
    ] = None,
    target_risk: Annotated[
        float | None,
        typer.Option(help="Mean 1 - Dice wanted among accepted cases; 0.9 of the mean by default."),
    ] = None,
    target_voxel_risk: Annotated[float, typer.Option(help="Error rate wanted among accepted voxels.")] = 0.01,
    resample: ResampleOption = False,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Calibrate a network that reads sentences, and learn when to ask for review.

    Example: sfumato fit text_guided --segmenter runs/text --data DATA --prompt-level p6 --out runs/text-fit
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.fit import FitOptions
    from ...runs.text.fit import TextFitOptions, fit_texts

    use_threads(threads)
    how = FitOptions("calibration", target_risk, target_voxel_risk, False, resample, seed, device)
    options = TextFitOptions(settings={"sentences": tuple(sentence or ())}, level=prompt_level, fit=how)
    record = fit_texts(segmenter, data, out, options, splits, patient or PATIENT_PATTERN, say)
    tell_fitted(record, out, next_told(out, data, prompt_level), json_output)


def next_told(out: Path, data: Path, level: str | None) -> str:
    """The command that follows a fit with sentences."""
    said = f" --prompt-level {level}" if level else ""
    return f"sfumato evaluate text_guided --model {out} --data {data}{said}"
