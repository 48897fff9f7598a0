"""How data sets keep sentences beside images: every layout becomes the same entries.

| layout | found by | source |
| --- | --- | --- |
| `Train_Folder/{img,labelcol}`, `Train_text.xlsx` or `.csv` inside, alike for Val and Test | `Train_Folder` | LViT |
| `Train/{Images,GTs}`, `prompt/train.csv`, alike for Val and Test | `prompt` | Ariadne's Thread |
| `images`, `masks`, `train.json` with prompts p0, p1, ..., alike for val and test, or all in `anns` | JSON | MedVLSM |
| a table of one's own: `texts.csv` or `texts.xlsx`, or any file that is named | the file | |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import DatasetError
from ..imaging import stem_of, suffix_of
from .folder import open_dataset
from .spreadsheet import Row, read_sheet
from .text_entries import LEVEL, PARTS, Entry, Files, Found
from .text_prompts import find_prompted

SHEETS = (".csv", ".xlsx")


def find_entries(path: Path, patient_pattern: str) -> Found:
    """The entries of whichever layout it is.

    Args:
        path: a folder, or a table of one's own.
        patient_pattern: names the patient in a case's name.

    Raises:
        DatasetError: no layout that we know, or one whose tables cannot be read.
    """
    if path.is_file():
        return _own_table(path, patient_pattern)
    if not path.is_dir():
        raise DatasetError(f"{path}: there is no such folder or file; expected a data set, or its table.")
    if (path / "Train_Folder").is_dir():
        return _folders(path, "{0}_Folder", ("img", "labelcol"), "{0}_Folder/{0}_text")
    if (path / "prompt").is_dir():
        return _folders(path, "{0}", ("Images", "GTs"), "prompt/{1}")
    own = _one_sheet(path / "texts")
    if own is not None:
        return _own_table(own, patient_pattern)
    inside = path / "anns" if (path / "anns").is_dir() else path
    files = {n: inside / f"{n}.json" for n in ("train", "val", "test") if (inside / f"{n}.json").is_file()}
    if files:
        return find_prompted(path, files)
    raise DatasetError(
        f"{path}: no sentences in a layout that we know; expected Train_Folder, prompt, train.json or "
        "texts.csv, or the path of a table."
    )


def _one_sheet(stem: Path) -> Path | None:
    found = [p for ending in SHEETS if (p := stem.with_name(stem.name + ending)).is_file()]
    if len(found) > 1:
        raise DatasetError(f"{found[0]}: {found[1].name} lies beside it, expected one table; remove one.")
    return found[0] if found else None


def _folders(root: Path, part_folder: str, inner: tuple[str, str], table: str) -> Found:
    """A folder for each part, with one of images and one of masks; its table names the masks."""
    found = Found()
    for part in ("Train", "Val", "Test"):
        folder = root / part_folder.format(part)
        if not folder.is_dir():
            continue
        name = table.format(part, part.lower())
        sheet = _one_sheet(root / name)
        if sheet is None:
            raise DatasetError(
                f"{folder}: no table of its sentences; expected {name}.csv or .xlsx in {root}."
            )
        images, masks = Files(folder / inner[0]), Files(folder / inner[1])
        for row in read_sheet(sheet, ("image", "text")):
            pair = found.pair(
                images, masks, (row.cells["image"], row.cells["image"]), f"{sheet.name} row {row.number}"
            )
            if pair is not None:
                found.entries.append(_entry(sheet, row, stem_of(pair[0]), pair[:1], pair[1], part.lower()))
        found.unmatched += images.left() + masks.left()
    return found


def _own_table(sheet: Path, patient_pattern: str) -> Found:
    rows = read_sheet(sheet, ("image", "text"))
    if rows and "mask" in rows[0].cells:
        return _paths(sheet, rows)
    return _names(sheet, rows, patient_pattern)


def _paths(sheet: Path, rows: Sequence[Row]) -> Found:
    """Columns `image` and `mask` hold paths from the table's folder; cases are named by what differs in them."""
    found = Found()
    named = [sheet.parent / row.cells["image"] for row in rows if row.cells["image"]]
    above = os.path.commonpath([path.parent for path in named]) if named else ""
    for row in rows:
        image, mask = (sheet.parent / row.cells[key] for key in ("image", "mask"))
        lost = [path for path in (image, mask) if not (path.is_file() and suffix_of(path))]
        found.unmatched += [
            f"{sheet.name} row {row.number} ({path.name}) has no such image file" for path in lost
        ]
        if not lost:
            name = "_".join([*image.parent.relative_to(above).parts, stem_of(image)])
            found.entries.append(_entry(sheet, row, name, (image,), mask))
    return found


def _names(sheet: Path, rows: Sequence[Row], patient_pattern: str) -> Found:
    """The column `image` names cases that `open_dataset` finds in the table's folder, with or without an ending."""
    dataset = open_dataset(sheet.parent, patient_pattern)
    found = Found(unmatched=list(dataset.problems), label_values=dataset.label_values)
    named = set()
    for row in rows:
        case = dataset.cases.get(stem_of(row.cells["image"]))
        if case is None:
            found.unmatched.append(
                f"{sheet.name} row {row.number} ({row.cells['image'] or 'no name'}) has no case"
            )
        else:
            named.add(case.name)
            found.entries.append(_entry(sheet, row, case.name, case.images, case.label))
    found.unmatched += [f"{name} has no row" for name in dataset.cases if name not in named]
    return found


def _entry(
    sheet: Path, row: Row, name: str, images: tuple[Path, ...], label: Path | None, part: str = ""
) -> Entry:
    part = part or row.cells.get("split", "").lower()
    if part and part not in PARTS:
        raise DatasetError(
            f"{sheet.name}: row {row.number} has the split {part!r}, expected one of {', '.join(PARTS)}."
        )
    sentences = {LEVEL: (row.cells["text"],)}
    return Entry(name, images, label, sentences, PARTS.get(part), row.cells.get("patient", ""))
