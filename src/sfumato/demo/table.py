"""A demo's numbers for people: a drawn table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any


def table_lines(
    columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], terminal: bool, title: str
) -> list[str]:
    """Rows as lines: a drawn table for a terminal, else one line per row that names every number.

    Args:
        columns: key in the rows -> title; the first names the row.
        rows: a value per key; None is undefined.
        terminal: whether to draw.
        title: of the drawn table.

    Example:
        >>> table_lines({"case": "case", "dice": "Dice"}, [{"case": "ball", "dice": 0.5}], False, "balls")
        ['ball: Dice 0.500']
    """
    shown = [{key: _shown(row[key]) for key in columns} for row in rows]
    return _drawn(columns, shown, title) if terminal else [_line(columns, row) for row in shown]


def _shown(value: Any) -> str:
    return "undefined" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _line(columns: Mapping[str, str], row: Mapping[str, str]) -> str:
    first, *others = columns
    return f"{row[first]}: " + ", ".join(f"{columns[key]} {row[key]}" for key in others)


def _drawn(columns: Mapping[str, str], rows: Sequence[Mapping[str, str]], title: str) -> list[str]:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns.values(), title=title)
    for row in rows:
        table.add_row(*row.values())
    console = Console(file=io.StringIO(), force_terminal=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get().rstrip("\n").splitlines()
