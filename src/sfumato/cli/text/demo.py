"""`sfumato demo text_guided`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.main

from ..shared import JsonOption, ThreadsOption, case_progress, emit, say, use_threads


def alone() -> Any:
    """The command by itself, for `sfumato demo text_guided`."""
    app = typer.Typer(add_completion=False)
    app.command("demo")(demo)
    return typer.main.get_command(app)


def demo(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the results; a killed run is finished there.")
    ] = Path("demo/text_guided"),
    threads: ThreadsOption = 0,
    json_output: JsonOption = False,
) -> None:
    """Train a network on slices of one averaged brain, in which a sentence picks the region, and try it.

    Example: sfumato demo text_guided --out demo/text_guided
    """
    from ...demo.text import run_text_demo

    use_threads(threads)
    with case_progress("predict") as note:
        result = run_text_demo(out, say, note)
    if json_output:
        emit(result)
