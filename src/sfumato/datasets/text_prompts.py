"""Sentences in levels of detail, as MedVLSM keeps them: JSON beside `images` and `masks`.

Poudel et al., "Exploring transfer learning in medical image segmentation using vision-language models" (2024). p0 is
empty, p1 names the organ or lesion, each further level adds an attribute, and some levels hold several wordings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from ..errors import DatasetError
from ..imaging import stem_of
from .text_entries import PARTS, Entry, Files, Found


def find_prompted(root: Path, files: Mapping[str, Path]) -> Found:
    """The rows of a JSON list for each part.

    Args:
        root: folder of `images`, `masks` and, for videos, `SEQUENCES.txt`, by which frames are grouped.
        files: of each part, `train`, `val` or `test`.

    Raises:
        DatasetError: a list of another form, a folder that is not there, or a frame of no sequence.
    """
    found, images, masks = Found(), Files(root / "images"), Files(root / "masks")
    sequence_of = _read_sequences(root / "SEQUENCES.txt")
    for part, file in files.items():
        for number, row in enumerate(_read_rows(file), 1):
            pair = found.pair(
                images, masks, (row["img_name"], row["mask_name"]), f"{file.name} entry {number}"
            )
            if pair is not None:
                levels = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in row["prompts"].items()}
                name = stem_of(pair[0])
                found.entries.append(Entry(name, pair[:1], pair[1], levels, PARTS[part], sequence_of(name)))
    found.unmatched += images.left() + masks.left()
    return found


def _read_rows(file: Path) -> list[dict]:
    try:
        rows = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: not a readable JSON file ({error}); expected a list.") from error
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        names = [row.get(key) for key in ("img_name", "mask_name")] if isinstance(row, dict) else [None]
        prompts = row.get("prompts") if isinstance(row, dict) else None
        told = isinstance(prompts, dict) and all(_is_text(text) for text in prompts.values())
        if not (isinstance(rows, list) and told and all(isinstance(name, str) for name in names)):
            raise DatasetError(
                f"{file}: entry {number} is {str(row)[:80]}, expected a list of objects with img_name, mask_name and "
                "prompts, which hold a sentence or a list of them for each level."
            )
    return rows


def _is_text(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))


def _read_sequences(file: Path) -> Callable[[str], str]:
    """Frame number -> video sequence, from lines `SEQUENCE FIRST LAST`; without the file nothing is known."""
    if not file.is_file():
        return lambda name: ""
    try:
        lines = [line.split() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        ranges = [(name, range(int(first), int(last) + 1)) for name, first, last in lines]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: not readable ({error}); expected lines SEQUENCE FIRST LAST.") from error

    def sequence_of(name: str) -> str:
        found = [sequence for sequence, frames in ranges if name.isdecimal() and int(name) in frames]
        if len(found) != 1:
            raise DatasetError(
                f"{name}: a frame of {len(found)} sequences in {file.name}, expected one; correct the ranges."
            )
        return f"sequence_{found[0]}"

    return sequence_of
