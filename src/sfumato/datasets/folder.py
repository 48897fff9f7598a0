"""Cases on disk: nnU-Net raw folders, and `images/` beside `masks/`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DatasetError
from ..imaging import READABLE, stem_of, suffix_of
from .splits import PATIENT_PATTERN, Splits, make_splits, patient_of, read_splits

READERS = re.compile(r"^masks_annotator(\d+)$")
"""Folders of label maps by several readers."""
MASK_ENDING = re.compile(
    r"[_-](?:masks?|seg|segmentation|labels?|gt|manual\d?|\d(?:st|nd|rd|th)HO)$", re.IGNORECASE
)
"""What a mask's name may have beyond its image's; CHASE_DB1 numbers its human observers."""


@dataclass(frozen=True)
class Case:
    """One image (one file per channel) and, where there is one, its label map.

    Args:
        name: of the case.
        patient: whose it is.
        images: one file per channel.
        label: the label map; the first reader's where there are several.
        readers: the label maps of all readers, where there are several.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    label: Path | None = None
    readers: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Cases by name, and what `dataset.json` says about their classes.

    Args:
        folder: where they lie.
        cases: sorted by name.
        label_values: value in the label files -> class name, background first; empty when not declared.
        problems: one sentence per case that was left out.
    """

    folder: Path
    cases: Mapping[str, Case]
    label_values: Mapping[int, str]
    problems: tuple[str, ...] = ()

    def splits(self, path: Path | None = None, seed: int | None = None) -> Splits:
        """The splits of `path`, else of `splits.json` in the folder, else made by patient with `seed`."""
        patients = {name: case.patient for name, case in self.cases.items()}
        beside = self.folder / "splits.json"
        if path is not None or beside.exists():
            return read_splits(path or beside, self.cases, patients)
        return make_splits(patients, seed)


def open_dataset(folder: str | Path, patient_pattern: str = PATIENT_PATTERN) -> Dataset:
    """Find the cases of a data set.

    Args:
        folder: a raw nnU-Net folder (`imagesTr`, `labelsTr`, `dataset.json`), or one whose `images` and
            `masks` (or `masks_annotator1`, `masks_annotator2`, ...) hold files of equal names; `_mask`,
            `_seg` and their like may end a mask's.
        patient_pattern: regular expression whose first group names the patient in a case's name.

    Raises:
        DatasetError: no such folder, an unknown layout, no image with a label, or two files for one case.
        ConfigError: a pattern that is not a regular expression with a group.
    """
    folder = Path(folder)
    check_pattern(patient_pattern)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder; expected a data set.")
    if (folder / "imagesTr").is_dir():
        cases, problems = _find_nnunet(folder, patient_pattern)
    elif (folder / "images").is_dir():
        cases, problems = _find_plain(folder, patient_pattern)
    else:
        raise DatasetError(
            f"{folder}: not a data set we know; expected images and masks, or imagesTr and labelsTr."
        )
    if not cases:
        raise DatasetError(f"{folder}: no image has a label of its name; the first finding: {problems[0]}")
    return Dataset(folder, cases, _declared_labels(folder), tuple(problems))


def check_pattern(pattern: str) -> None:
    """Refuse a patient pattern that is not a regular expression with a group.

    Raises:
        ConfigError: says what is wrong with it.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ConfigError(f"patient pattern {pattern!r}: not a regular expression ({error}).") from error
    if not groups:
        raise ConfigError(
            f"patient pattern {pattern!r}: expected a group around the patient, as in '(.+)_day'."
        )


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if suffix_of(path) and not path.name.startswith(".") and path.is_file():
            name = stem_of(path)
            if name in found:
                raise DatasetError(
                    f"{name}: two files, {found[name].name} and {path.name} in {folder}, expected one per "
                    "case; remove one."
                )
            found[name] = path
    return found


def _images(folder: Path) -> dict[str, Path]:
    images = _files(folder)
    if not images:
        raise DatasetError(f"{folder}: no image in it; expected files ending in {', '.join(READABLE)}.")
    return images


def _masks(folder: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for stem, path in _files(folder).items():
        name = stem if stem in images else MASK_ENDING.sub("", stem)
        if name in found:
            raise DatasetError(
                f"{name}: two masks, {found[name].name} and {path.name}, expected one; remove one."
            )
        found[name] = path
    return found


def _find_plain(folder: Path, pattern: str) -> tuple[dict[str, Case], list[str]]:
    images = _images(folder / "images")
    masks = _masks(folder / "masks", images)
    by_reader = [_masks(reader, images) for reader in _reader_folders(folder)]
    first = masks or (by_reader[0] if by_reader else {})
    problems = [
        f"{n}: an image without a mask of its name; the case is left out." for n in images if n not in first
    ]
    problems += [
        f"{n}: a mask without an image of its name; it is left out." for n in first if n not in images
    ]
    cases = {
        name: Case(
            name,
            patient_of(name, pattern),
            (path,),
            first[name],
            tuple(reader[name] for reader in by_reader if name in reader),
        )
        for name, path in images.items()
        if name in first
    }
    return cases, problems


def _reader_folders(folder: Path) -> list[Path]:
    found = {int(m.group(1)): p for p in folder.iterdir() if (m := READERS.match(p.name)) and p.is_dir()}
    return [found[number] for number in sorted(found)]


def _find_nnunet(folder: Path, pattern: str) -> tuple[dict[str, Case], list[str]]:
    channels: dict[str, dict[int, Path]] = {}
    for stem, path in _images(folder / "imagesTr").items():
        name, _, number = stem.rpartition("_")
        if not (name and number.isdecimal()):
            raise DatasetError(
                f"{path.name}: expected a channel number at the end, as in {stem}_0000; rename it."
            )
        if int(number) in channels.setdefault(name, {}):
            raise DatasetError(f"{path.name}: a second file for channel {int(number)} of {name}; remove one.")
        channels[name][int(number)] = path
    labels = _files(folder / "labelsTr")
    problems, cases = [], {}
    expected = max(len(c) for c in channels.values())
    for name in sorted(set(channels) | set(labels)):
        found = channels.get(name, {})
        if name not in labels:
            problems.append(f"{name}: an image without a label in labelsTr; the case is left out.")
        elif not found:
            problems.append(f"{name}: a label without an image in imagesTr; it is left out.")
        elif sorted(found) != list(range(expected)):
            problems.append(
                f"{name}: channels {sorted(found)}, expected 0 to {expected - 1}; the case is left out."
            )
        else:
            files = tuple(found[i] for i in range(expected))
            cases[name] = Case(name, patient_of(name, pattern), files, labels[name])
    return cases, problems


def _declared_labels(folder: Path) -> dict[int, str]:
    """Value -> name, from nnU-Net's `{"name": value}` or the older `{"value": "name"}`, without regions."""
    path = folder / "dataset.json"
    if not path.exists():
        return {}
    try:
        labels = json.loads(path.read_text(encoding="utf-8")).get("labels", {})
        older = all(str(key).isdecimal() and isinstance(value, str) for key, value in labels.items())
        pairs = [(v, k) if older else (k, v) for k, v in labels.items() if not isinstance(v, list)]
        found = {int(value): str(name) for name, value in pairs if str(name) != "ignore"}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatasetError(
            f"{path}: not a readable dataset.json ({error}); expected labels as name: value."
        ) from error
    if found and 0 not in found:
        raise DatasetError(f"{path}: labels {found}, expected a background of value 0 among them.")
    return dict(sorted(found.items()))
