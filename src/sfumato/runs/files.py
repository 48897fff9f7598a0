"""Files that are whole or not there: hashes, locks, and the images a command was pointed at."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError, StorageError
from ..imaging import READABLE, stem_of, suffix_of

CHANNEL = re.compile(r"^(.+)_(\d{4})$")
"""nnU-Net's way of naming channels: case_0000, case_0001."""


@dataclass(frozen=True)
class InputCase:
    """One image to predict: its name and one file, or one file per channel."""

    name: str
    images: tuple[Path, ...]


def find_inputs(sources: Sequence[Path]) -> list[InputCase]:
    """The cases among files and folders, by name; `x_0000` and `x_0001` are channels of one case.

    Raises:
        InputError: nothing to read, or two cases of one name.
    """
    files: list[Path] = []
    for source in sources:
        if source.is_dir():
            inner = next(
                (source / n for n in ("images", "imagesTs", "imagesTr") if (source / n).is_dir()), source
            )
            found = sorted(p for p in inner.iterdir() if suffix_of(p) and not p.name.startswith("."))
            if not found:
                raise InputError(f"{source}: no image in it; expected files ending in {', '.join(READABLE)}.")
            files += found
        else:
            files.append(source)
    cases: dict[str, list[Path]] = {}
    stems = {stem_of(f) for f in files}
    for file in files:
        match = CHANNEL.match(stem_of(file))
        name = match.group(1) if match and f"{match.group(1)}_0000" in stems else stem_of(file)
        cases.setdefault(name, []).append(file)
    for name, paths in cases.items():
        if len({stem_of(p) for p in paths}) != len(paths):
            raise InputError(
                f"{name}: {len(paths)} files of that name, expected one; rename or leave out the others."
            )
    return [InputCase(name, tuple(sorted(paths))) for name, paths in sorted(cases.items())]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder for one run.

    Raises:
        StorageError: another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("w")
    except OSError as error:
        raise StorageError(
            f"{folder}: cannot be written ({error.strerror}); choose another --out."
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(
                f"{folder}: another run is writing here; wait for it, or choose another --out."
            ) from error
        yield


@contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder that appears under its name only when the block has ended well."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)


def write_text(path: Path, text: str) -> None:
    """Write under a temporary name, then rename."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def csv_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV, with the names of the first one above; nothing where there are no rows."""
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()
