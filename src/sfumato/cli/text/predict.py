"""`sfumato predict text_guided`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from ...errors import ConfigError
from ..shared import (
    DeviceOption,
    JsonOption,
    ResampleOption,
    ThreadsOption,
    case_progress,
    emit,
    say,
    use_threads,
)


def alone() -> Any:
    """The command by itself, for `sfumato predict text_guided`."""
    app = typer.Typer(add_completion=False)
    app.command("predict")(predict)
    return typer.main.get_command(app)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            help="A folder of `sfumato train --method text_guided`, or of `sfumato fit` on one.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; a killed run is finished there.")
    ],
    text: Annotated[
        str | None, typer.Option("--text", help="What the image shows; without it, no sentence is read.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option("--texts", help="Table with columns image and text, .csv or .xlsx, in place of --text."),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option("--variant", help="Another sentence to compare with; may be repeated."),
    ] = None,
    sides: Annotated[
        str, typer.Option("--sides", help="Whose left a sentence means on pictures: image or patient.")
    ] = "image",
    words: Annotated[
        bool, typer.Option("--words/--no-words", help="Leave each word out once, on pictures.")
    ] = True,
    float32: Annotated[
        bool, typer.Option("--float32", help="Write volume maps as float32, not uint8.")
    ] = False,
    resample: ResampleOption = False,
    device: DeviceOption = "cpu",
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Segment what a sentence describes, and say how far the mask hangs on its words.

    Example: sfumato predict text_guided image.png --model runs/text --text "one small polyp, left" --out out
    """
    from ...pipeline.case import PredictOptions
    from ...runs.text.predict import TextPredictOptions, predict_texts
    from ...runs.text.sentences import read_texts
    from ...training.loop import pick_device

    if text is not None and texts is not None:
        raise ConfigError("--text together with --texts, expected one or the other.")
    use_threads(threads)
    given: dict[str | None, str] = {} if text is None else {None: text}
    if texts is not None:
        given |= read_texts(texts)
    predict_options = PredictOptions(float32=float32)
    options = TextPredictOptions(
        tuple(variant or ()), sides, words, resample, str(pick_device(device)), predict_options
    )
    with case_progress("predict") as note:
        summary = predict_texts(model, images, given, out, options, note, say)
    for failure in summary.failures:
        say(f"failed: {failure}")
    if json_output:
        emit(
            {
                "index": str(summary.index),
                "done": summary.done,
                "kept": summary.kept,
                "failures": summary.failures,
                "cases": list(summary.cases.values()),
            }
        )
    else:
        for name, content in summary.cases.items():
            for warning in content["warnings"]:
                say(f"{name}: {warning}")
        say(f"look: {summary.index}")
    if summary.failures:
        raise typer.Exit(1)
