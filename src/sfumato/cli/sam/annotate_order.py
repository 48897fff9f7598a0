"""`sfumato sam annotate-order`."""

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

SHOWN = 10
"""Rows printed; the table holds all of them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("annotate-order")(annotate_order)


def annotate_order(
    data: Annotated[
        Path, typer.Argument(help="Data set folder; with --prompts, a folder of images will do.")
    ],
    heads: HeadsOption,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for order.csv and index.html; a killed run is finished there."),
    ],
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
    """List a data set's objects in the order in which to look at them: the lowest expected IoU first.

    Example: sfumato sam annotate-order DATA --heads HEADS --out order
    """
    from ...datasets.splits import PATIENT_PATTERN
    from ...runs.sam.heads import CacheOptions, open_heads
    from ...runs.sam.order import order_objects
    from ...runs.sam.pool import PoolOptions

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
        summary = order_objects(data, opened, out, options, note)
    for failure in summary.failures:
        say(f"failed: {failure}")
    if json_output:
        emit(
            {
                "table": str(summary.table),
                "page": str(summary.page),
                "failures": summary.failures,
                "objects": list(summary.rows),
            }
        )
    else:
        for row in summary.rows[:SHOWN]:
            say(f"{row['case']}, {row['name']}: expected IoU {row['expected_iou']:.2f}")
        say(f"{len(summary.rows)} objects: {summary.table}")
        say(f"look: {summary.page}")
    if summary.failures:
        raise typer.Exit(1)
