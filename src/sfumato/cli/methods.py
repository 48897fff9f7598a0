"""`sfumato methods`."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from .shared import JsonOption, emit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("methods")(methods)


def methods(
    name: Annotated[str | None, typer.Argument(help="Show this method's settings.")] = None,
    json_output: JsonOption = False,
) -> None:
    """List the uncertainty methods, or the settings of one.

    Example: sfumato methods perturbation_head
    """
    from rich.console import Console
    from rich.table import Table

    from ..registry import get_method, list_methods

    names = [name] if name else list(list_methods())
    specs = [get_method(n) for n in names]
    if json_output:
        emit({"methods": [_plain(spec) for spec in specs]})
        return
    table = Table("method", "what it is", "passes", "fitted", "maps", "ranks by", "paper")
    for spec in specs:
        maps = ", ".join(k.value for k in spec.maps)
        table.add_row(
            spec.name,
            spec.title,
            spec.passes,
            "yes" if spec.fits else "no",
            maps,
            spec.ranks_by.value,
            spec.paper,
        )
    console = Console()
    console.print(table)
    if name:
        settings = Table("setting", "default")
        default = specs[0].config()
        for field in fields(default):
            settings.add_row(field.name, repr(getattr(default, field.name)))
        console.print(settings)


def _plain(spec) -> dict:
    default = spec.config()
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "passes": spec.passes,
        "fits": spec.fits,
        "maps": [k.value for k in spec.maps],
        "scores": [k.value for k in spec.scores],
        "ranks_by": spec.ranks_by.value,
        "settings": {f.name: getattr(default, f.name) for f in fields(default)},
    }
