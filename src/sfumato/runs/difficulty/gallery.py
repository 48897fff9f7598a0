"""From an index to the page that shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from ...report.difficulty import Gallery, GalleryCase, write_gallery
from .reasons import reasons_of
from .shards import read_rows
from .table import ERROR, INDEX_COLUMNS, OK, Row

SHOWN = {
    "AUV": "auv",
    "distance": "neighbour_distance",
    "disagreement": "disagreement",
}
"""Words on a card -> column."""
DISTRIBUTIONS = {
    "Difficulty": "difficulty",
    "AUV of the image": "auv",
    "Distance to the nearest neighbours": "neighbour_distance",
    "Disagreement with the label": "disagreement",
}


def read_index(path: Path) -> list[Row]:
    """The rows of an index.

    Raises:
        StorageError: missing, damaged or not an index.
    """
    return read_rows(path, list(INDEX_COLUMNS))


def make_gallery(index: Path, out: Path) -> Path:
    """Write `index.html` into a folder.

    Raises:
        StorageError: an index that cannot be read.
    """
    rows = read_index(index)
    out.mkdir(parents=True, exist_ok=True)
    write_gallery(out / "index.html", gallery_of(rows, index.name))
    return out / "index.html"


def gallery_of(rows: Sequence[Row], title: str) -> Gallery:
    """What the page shows of an index."""
    cases = [
        _case(row, why) for row, why in zip(rows, reasons_of(rows), strict=True) if row["status"] != ERROR
    ]
    return Gallery(
        f"Difficulty: {title}",
        tuple(cases),
        tuple(row["message"] for row in rows if row["status"] == ERROR),
        tuple(row["label_message"] for row in rows if row["label_status"] == ERROR),
        _duplicates(rows),
        {name: [row[column] for row in rows] for name, column in DISTRIBUTIONS.items()},
        _facts(rows),
    )


def _case(row: Row, why: tuple[str, ...]) -> GalleryCase:
    return GalleryCase(
        row["case"],
        row["difficulty"],
        why,
        {name: row[column] for name, column in SHOWN.items() if math.isfinite(row[column])},
        row["thumbnail"],
        row["label_status"] == OK,
        "" if row["status"] == OK else row["status"],
    )


def _duplicates(rows: Sequence[Row]) -> tuple[tuple[str, ...], ...]:
    groups: dict[str, list[str]] = {}
    for row in rows:
        if row["duplicate_of"]:
            groups.setdefault(row["duplicate_of"], [row["duplicate_of"]]).append(row["case"])
    return tuple(tuple(group) for group in groups.values())


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    scored = next((row for row in rows if row["status"] != ERROR), None)
    if scored is None:
        return {}
    return {"extractor": scored["extractor"], "maps": scored["maps"], "scale": scored["convention"]}
