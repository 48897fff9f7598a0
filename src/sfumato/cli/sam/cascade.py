"""`sfumato sam cascade`."""

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
    say,
    use_threads,
)
from .options import (
    CacheGibOption,
    CacheOption,
    ChannelOption,
    HeadsOption,
    MinAreaOption,
    ObjectsOption,
    PerImageOption,
    PerVolumeOption,
    SegmenterOption,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("cascade")(cascade)


def cascade(
    data: Annotated[Path, typer.Argument(help="Labelled data set folder.")],
    heads: HeadsOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for cascade.csv, cascade.png and index.html.")],
    segmenter: SegmenterOption = None,
    ladder: Annotated[
        list[str] | None,
        typer.Option("--ladder", help="The other networks of the heads' ladder; may be repeated."),
    ] = None,
    cost: Annotated[
        str, typer.Option("--cost", help="CHEAP,LARGE per prompt in one unit; the ladder's own if not given.")
    ] = "",
    split: Annotated[str, typer.Option("--split", help="train, calibration, test or all.")] = "test",
    objects: ObjectsOption = "components",
    per_image: PerImageOption = 8,
    per_volume: PerVolumeOption = 8,
    min_area: MinAreaOption = 10,
    channel: ChannelOption = 0,
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
    """What sending some prompts on to the larger network buys on labelled cases, and what it costs.

    Example: sfumato sam cascade DATA --heads HEADS --out cascade
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.sam.cascade import CascadeOptions, parse_costs, run_cascade
    from ...runs.sam.collect import CollectOptions
    from ...runs.sam.heads import CacheOptions, cached_ladder, open_heads, open_ladder

    use_threads(threads)
    opened = open_heads(heads, segmenter, device)
    asked = CollectOptions(objects, per_image, 6, per_volume, min_area, channel, resample, seed)  # type: ignore[arg-type]  # checked by the class
    options = CascadeOptions(asked, split, splits, patient or PATIENT_PATTERN, parse_costs(cost))
    named = [*([segmenter] if segmenter else []), *(ladder or ())]
    rungs = cached_ladder(open_ladder(opened, named, device), CacheOptions(cache, cache_gib))
    with case_progress("collect") as note:
        summary = run_cascade(data, opened, rungs, out, options, note)
    for failure in summary["failures"]:
        say(f"failed: {failure}")
    if json_output:
        emit(summary)
    else:
        area = summary["relative_auc"]["heads"]
        say(
            f"IoU {summary['cheap_iou']:.3f} cheap, {summary['large_iou']:.3f} large; relative area of the heads "
            f"{area['value']:.2f} [{area['low']:.2f}, {area['high']:.2f}], chance 0.5"
        )
        say(f"look: {summary['page']}")
    if summary["failures"]:
        raise typer.Exit(1)
