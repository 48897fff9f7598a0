"""`sfumato sam`: one file per command of the group."""

from __future__ import annotations

import typer

from . import annotate_order, cascade, filter, fit, predict


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Promptable networks such as SAM: how good each mask is, and what a click, a choice or a larger network "
        "would add.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        epilog="Example: sfumato sam predict image.png --point 120,88 --heads HEADS --out out",
    )
    for module in (predict, fit, annotate_order, filter, cascade):
        module.register(group)
    app.add_typer(group, name="sam")
