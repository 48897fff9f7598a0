"""Tables of words from CSV and Excel files, with the headers people give them."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetError, MissingExtraError

DELIMITERS = ",;\t"
COLUMNS = {
    "image": "image",
    "mask": "mask",
    "text": "text",
    "description": "text",
    "patient": "patient",
    "split": "split",
}
"""Header -> column; headers are compared trimmed and in lower case, others are left alone."""


@dataclass(frozen=True)
class Row:
    """Number of a row as a spreadsheet counts it (the header is 1), and its trimmed cells by column."""

    number: int
    cells: Mapping[str, str]


def read_sheet(path: Path, required: Collection[str]) -> list[Row]:
    """Read a table with a header; of a workbook, its first sheet.

    Spaces around cells and repeated within them are dropped, rows without any content too. A CSV file may start with a
    byte order mark, end its lines as Windows does, and be delimited by commas, semicolons or tabs.

    Args:
        path: a file that ends in `.csv` or `.xlsx`.
        required: columns among the values of `COLUMNS` that it needs to have.

    Raises:
        DatasetError: not readable as such a table, a column missing or twice, or a row longer than its header.
        MissingExtraError: a workbook, and openpyxl is not installed.
    """
    lines = _read_workbook(path) if path.suffix.lower() == ".xlsx" else _read_csv(path, required)
    rows = [(number, [_as_text(cell) for cell in line]) for number, line in enumerate(lines, 1)]
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if not rows:
        raise DatasetError(f"{path.name}: an empty table, expected a header with {', '.join(required)}.")
    header = _columns(rows[0][1])
    known = [name for name in header if name]
    missing = [name for name in required if name not in known]
    if missing:
        raise DatasetError(
            f"{path.name}: no column {missing[0]!r} among {rows[0][1]}, expected {', '.join(required)}; name "
            "it in the first row."
        )
    twice = [name for name in known if known.count(name) > 1]
    if twice:
        raise DatasetError(f"{path.name}: two columns for {twice[0]!r}, expected one; rename one.")
    return [_row(path, number, header, cells) for number, cells in rows[1:]]


def _columns(header: Sequence[str]) -> list[str]:
    return [COLUMNS.get(name.lower(), "") for name in header]


def _row(path: Path, number: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    if any(cells[len(header) :]):
        raise DatasetError(
            f"{path.name}: row {number} has {len(cells)} cells, expected {len(header)} as in the header; put "
            "text that holds the delimiter into quotes."
        )
    padded = [*cells, *[""] * (len(header) - len(cells))]
    return Row(number, {name: cell for name, cell in zip(header, padded, strict=False) if name})


def _as_text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():  # a file called 12, which a spreadsheet keeps as 12.0
        return str(int(cell))
    return " ".join(str(cell).split())


def _read_csv(path: Path, required: Collection[str]) -> list[list[str]]:
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
        header = next((line for line in text.splitlines() if line.strip()), "")
        mark = max(DELIMITERS, key=lambda delimiter: _recognised(header, delimiter, required))
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(
            f"{path.name}: not a readable CSV file ({error}); expected UTF-8, and quotes around text that "
            "holds the delimiter; save it so."
        ) from error


def _recognised(header: str, delimiter: str, required: Collection[str]) -> int:
    """How many of the columns we ask for there are, when the header is split so."""
    names = next(csv.reader([header], delimiter=delimiter), [])
    return len(set(_columns([name.strip() for name in names])) & set(required))


def _read_workbook(path: Path) -> list[list[object]]:
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise MissingExtraError("openpyxl", "text", f"reading {path.name}") from error
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path.name}: not a readable workbook ({type(error).__name__}); expected .xlsx, save it as that "
            "or as CSV."
        ) from error
    try:
        return [list(line) for line in _cells(workbook.worksheets)]
    finally:
        workbook.close()


def _cells(sheets: Sequence) -> Iterator[Iterable[object]]:
    if sheets:
        yield from sheets[0].iter_rows(values_only=True)
