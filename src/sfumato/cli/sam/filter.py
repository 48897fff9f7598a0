"""`sfumato sam filter`."""

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
    KindOption,
    MinAreaOption,
    ObjectsOption,
    PromptsOption,
    SegmenterOption,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("filter")(filter_labels)


def filter_labels(
    data: Annotated[
        Path, typer.Argument(help="Data set folder; with --prompts, a folder of images will do.")
    ],
    heads: HeadsOption,
    out: Annotated[Path, typer.Option("--out", help="Folder for masks/, filter.csv and index.html.")],
    mean_iou: Annotated[
        float | None,
        typer.Option("--mean-iou", help="Keep as many masks as have this expected IoU on average."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Keep masks with at least this, instead of --mean-iou."),
    ] = None,
    by: Annotated[
        str, typer.Option("--by", help="expected, or low: the lower end of the interval, which is careful.")
    ] = "expected",
    prompts: PromptsOption = None,
    prompt_kind: KindOption = "box",
    objects: ObjectsOption = "components",
    min_area: MinAreaOption = 10,
    segmenter: SegmenterOption = None,
    channel: ChannelOption = 0,
    patient: PatientOption = None,
    resample: ResampleOption = False,
    cache: CacheOption = None,
    cache_gib: CacheGibOption = 4.0,
    device: DeviceOption = "auto",
    seed: SeedOption = 0,
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Keep the masks that are expected to be good enough to train on, with a weight for each.

    Example: sfumato sam filter IMAGES --prompts prompts.json --heads HEADS --mean-iou 0.9 --out labels
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.sam.filter import FilterRule, filter_masks
    from ...runs.sam.heads import CacheOptions, open_heads
    from ...runs.sam.pool import PoolOptions

    rule = FilterRule(mean_iou, threshold, by)
    use_threads(threads)
    opened = open_heads(heads, segmenter, device, CacheOptions(cache, cache_gib))
    options = PoolOptions(
        prompts,
        prompt_kind,
        objects,  # type: ignore[arg-type]  # checked by the class
        min_area,
        channel,
        resample,
        seed,
        patient or PATIENT_PATTERN,
    )
    with case_progress("judge") as note:
        summary = filter_masks(data, opened, out, rule, options, note)
    for failure in summary.failures:
        say(f"failed: {failure}")
    if json_output:
        from ...runs.plain import plain

        emit(plain(vars(summary) | {"table": str(summary.table), "page": str(summary.page)}))
    else:
        if summary.kept:
            expected = f"expected IoU {summary.expected_iou:.2f} on average, {summary.threshold:.3f} at least"
            say(f"{summary.kept} of {summary.total} masks kept, {expected}: {out / 'masks'}")
        else:
            say(
                f"none of {summary.total} masks is expected to be that good; lower the limit, or give better prompts"
            )
        say(f"look: {summary.page}")
    if summary.failures:
        raise typer.Exit(1)
