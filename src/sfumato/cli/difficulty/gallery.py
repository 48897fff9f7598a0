"""`sfumato difficulty gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..shared import JsonOption, emit, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("gallery")(gallery)


def gallery(
    index: Annotated[Path, typer.Argument(help="An index of `sfumato difficulty score`.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html.")],
    json_output: JsonOption = False,
) -> None:
    """Show the hardest and the easiest cases of an index on one page, with the reasons.

    Example: sfumato difficulty gallery index.parquet --out gallery
    """
    from ...runs.difficulty.gallery import make_gallery

    page = make_gallery(index, out)
    if json_output:
        emit({"page": str(page)})
    else:
        say(f"open {page}")
