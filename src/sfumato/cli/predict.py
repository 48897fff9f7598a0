"""`sfumato predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .by_method import command_by_method
from .shared import (
    DeviceOption,
    JsonOption,
    PickleOption,
    ResampleOption,
    ThreadsOption,
    case_progress,
    emit,
    say,
    use_threads,
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    methods = {"sam": ".sam.predict", "text_guided": ".text.predict"}
    app.command("predict", cls=command_by_method(methods))(predict)


def predict(
    method: Annotated[
        str,
        typer.Argument(
            help="A folder of `sfumato fit`, or a shipped pair (see `sfumato info`); `sam` and `text_guided` have "
            "a --help of their own."
        ),
    ],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; a killed run is finished there.")
    ],
    float32: Annotated[
        bool, typer.Option("--float32", help="Write volume maps as float32, not uint8.")
    ] = False,
    max_ram: Annotated[
        float | None,
        typer.Option(help="GiB a case may take beyond image and network; larger cases are refused."),
    ] = None,
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of a window its neighbour covers too.")
    ] = 0.5,
    window_batch: Annotated[int, typer.Option(min=1, help="Windows per call of the network.")] = 1,
    resample: ResampleOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 0,
    allow_pickle: PickleOption = False,
    json_output: JsonOption = False,
) -> None:
    """Segment images, with calibrated probability, error maps, a decision and a report per case.

    Example: sfumato predict hippocampus image.nii.gz --out out
    """
    from ..pipeline.case import PredictOptions
    from ..runs.predict import predict_files
    from ..training.loop import pick_device
    from ..weights import find_method

    use_threads(threads)
    options = PredictOptions(overlap, window_batch, float32, max_ram)
    with case_progress("predict") as note:
        summary = predict_files(
            find_method(method),
            images,
            out,
            options,
            resample,
            str(pick_device(device)),
            note,
            say,
            allow_pickle,
        )
    for failure in summary.failures:
        say(f"failed: {failure}")
    if json_output:
        emit(
            {
                "index": str(summary.index),
                "done": summary.done,
                "kept": summary.kept,
                "failures": summary.failures,
                "cases": list(summary.rows),
            }
        )
    else:
        review = sum(row["verdict"] == "review" for row in summary.rows)
        say(
            f"{len(summary.rows)} cases, {review} to review, {len(summary.failures)} failed; open {summary.index}"
        )
    if summary.failures:
        raise typer.Exit(1)
