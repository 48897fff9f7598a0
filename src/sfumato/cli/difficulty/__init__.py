"""`sfumato difficulty`: one file per command of the group."""

from __future__ import annotations

import typer

from . import filter, folds, gallery, score


def register(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Which cases of a data set are hard, odd or doubtfully labelled: score, look, filter.",
        no_args_is_help=True,
        rich_markup_mode="rich",
        epilog="Example: sfumato difficulty score DATA --out index.parquet",
    )
    for module in (score, gallery, filter, folds):
        module.register(group)
    app.add_typer(group, name="difficulty")
