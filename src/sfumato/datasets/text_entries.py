"""What every layout of images and sentences is brought to, and how the names in its tables find their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DatasetError
from ..imaging import stem_of, suffix_of
from .splits import SplitName

LEVEL = "text"
"""The level of sentences where a layout has but one."""
MASK_PREFIX = "mask_"
PARTS: dict[str, SplitName] = {
    "train": "train",
    "val": "calibration",
    "valid": "calibration",
    "validation": "calibration",
    "calibration": "calibration",
    "test": "test",
}
"""What others call our splits."""


@dataclass(frozen=True)
class Entry:
    """One row that has its files: what is written there, and the part and patient it names, if it does."""

    name: str
    images: tuple[Path, ...]
    label: Path | None
    sentences: Mapping[str, tuple[str, ...]]
    split: SplitName | None = None
    patient: str = ""


@dataclass
class Found:
    """What a layout holds, and a phrase for each row or file that has no partner."""

    entries: list[Entry] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    label_values: Mapping[int, str] = field(default_factory=dict)

    def pair(
        self, images: Files, masks: Files, names: tuple[str, str], where: str
    ) -> tuple[Path, Path] | None:
        """The image and the mask of a row, or None, which is noted."""
        paths = images.take(names[0]), masks.take(names[1])
        for path, files, name in zip(paths, (images, masks), names, strict=True):
            if path is None:
                self.unmatched.append(f"{where} ({name or 'no name'}) has no file in {files.folder.name}")
        return (paths[0], paths[1]) if paths[0] and paths[1] else None


class Files:
    """The readable files of a folder, found by names that may differ in prefix and ending.

    Raises:
        DatasetError: no such folder.
    """

    def __init__(self, folder: Path):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: there is no such folder; expected images or masks in it.")
        readable = [p for p in sorted(folder.iterdir()) if suffix_of(p) and not p.name.startswith(".")]
        self.folder = folder
        self.by_name = {path.name: path for path in readable}
        self.by_stem: dict[str, list[Path]] = {}
        for path in readable:
            self.by_stem.setdefault(stem_of(path), []).append(path)
        self.taken: set[Path] = set()

    def take(self, name: str) -> Path | None:
        """The file of exactly this name, else without or with `mask_` before it, else with another ending.

        Raises:
            DatasetError: several files differ from it in their endings alone.
        """
        bare = name.removeprefix(MASK_PREFIX)
        tried = (name, bare, MASK_PREFIX + bare)
        exact = [self.by_name[n] for n in tried if n in self.by_name]
        alike = next((self.by_stem[stem_of(n)] for n in tried if stem_of(n) in self.by_stem), [])
        if not exact and len(alike) > 1:
            raise DatasetError(
                f"{name}: {alike[0].name} and {alike[1].name} in {self.folder} may be meant, expected one; write "
                "the name with its ending."
            )
        found = exact[0] if exact else alike[0] if alike else None
        if found is not None:
            self.taken.add(found)
        return found

    def left(self) -> list[str]:
        """A phrase for every file that no row has taken."""
        rest = [path for path in self.by_name.values() if path not in self.taken]
        return [f"{self.folder.parent.name}/{self.folder.name}/{path.name} has no row" for path in rest]
