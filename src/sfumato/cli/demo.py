"""`sfumato demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .by_method import command_by_method
from .shared import JsonOption, emit, say


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo", cls=command_by_method({"text_guided": ".text.demo"}))(demo)


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the results.")] = Path("demo"),
    json_output: JsonOption = False,
) -> None:
    """Run the shipped pairs on public images that come inside Python packages.

    `sfumato demo text_guided` trains a network that reads sentences; it has a --help of its own.

    Example: sfumato demo --out demo
    """
    from ..demo.run import run_demo

    result = run_demo(out, say)
    if json_output:
        emit(result)
