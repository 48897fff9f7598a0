"""Which cases of a data set are scored: every image, with a label or without one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...datasets import SPLIT_NAMES, Splits, make_splits, open_dataset, patient_of, read_splits
from ...datasets.folder import READERS
from ...datasets.splits import PATIENT_PATTERN
from ...errors import DatasetError, InputError, UnknownNameError
from ..files import find_inputs

ALL = "all"
LABEL_FOLDERS = ("masks", "labelsTr")


@dataclass(frozen=True)
class ScoredCase:
    """One case to score.

    Args:
        name: of the case, unique in its data set.
        patient: whose it is.
        images: one file per channel.
        label: the label map, where there is one.
        split: `train`, `calibration`, `test`, or empty where no splits are known.
        problem: a sentence on why the case cannot be scored; empty where nothing is known against it.
        copied: whether damaged copies of it are described too.
    """

    name: str
    patient: str
    images: tuple[Path, ...]
    label: Path | None = None
    split: str = ""
    problem: str = ""
    copied: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Plain types, for another process."""
        paths = {"images": [str(p) for p in self.images], "label": str(self.label) if self.label else None}
        return asdict(self) | paths

    @classmethod
    def from_plain(cls, content: dict[str, Any]) -> ScoredCase:
        """The inverse of `to_plain`."""
        images = tuple(Path(p) for p in content["images"])
        label = Path(content["label"]) if content["label"] else None
        return cls(**content | {"images": images, "label": label})


def find_cases(
    data: Path, split: str = ALL, splits_file: Path | None = None, patient_pattern: str = PATIENT_PATTERN
) -> list[ScoredCase]:
    """The cases of a data set, sorted by name; labels are optional.

    Args:
        data: a data set folder (`images` beside `masks`, raw nnU-Net), or a folder of images alone.
        split: `train`, `calibration`, `test` or `all`.
        splits_file: names the splits; `splits.json` in the folder is used where there is one.
        patient_pattern: see `sfumato.datasets.open_dataset`.

    Raises:
        DatasetError: no image, two files for one case, or splits that do not fit.
        UnknownNameError: no such split.
    """
    if split not in (ALL, *SPLIT_NAMES):
        raise UnknownNameError("split", split, (ALL, *SPLIT_NAMES))
    cases = _images_and_labels(data, patient_pattern)
    splits = _splits(cases, data, split, splits_file)
    if splits is None:
        return cases
    owner = {name: part for part in SPLIT_NAMES for name in splits[part]}
    placed = [replace(case, split=owner.get(case.name, "")) for case in cases]
    chosen = [case for case in placed if split in (ALL, case.split)]
    if not chosen:
        raise DatasetError(
            f"{data}: the {split} split is empty, expected cases to score; choose another --split."
        )
    return chosen


def choose_copied(cases: Sequence[ScoredCase], count: int) -> list[ScoredCase]:
    """The same cases, that many training cases (of all, where no splits are known) marked as copied.

    The choice hangs on the names alone, so a restarted run makes the same one.
    """
    training = [case for case in cases if case.split == "train"] or list(cases)
    order = sorted(training, key=lambda case: hashlib.sha256(case.name.encode()).digest())
    chosen = {case.name for case in order[:count]}
    return [replace(case, copied=case.name in chosen) for case in cases]


def _images_and_labels(data: Path, pattern: str) -> list[ScoredCase]:
    if not data.is_dir():
        raise DatasetError(f"{data}: there is no such folder; expected a data set, or a folder of images.")
    inputs = find_inputs([data])
    labelled = open_dataset(data, pattern).cases if _has_labels(data) else {}
    usual = Counter(len(case.images) for case in inputs).most_common(1)[0][0]
    found = []
    for case in inputs:
        _check_name(case.name)
        label = labelled[case.name].label if case.name in labelled else None
        problem = ""
        if len(case.images) != usual:
            problem = (
                f"{case.name}: {len(case.images)} channel files, expected {usual} as most cases have; add the "
                "missing ones or remove the case."
            )
        found.append(
            ScoredCase(case.name, patient_of(case.name, pattern), case.images, label, problem=problem)
        )
    return found


def _has_labels(data: Path) -> bool:
    return any(p.is_dir() and (p.name in LABEL_FOLDERS or READERS.match(p.name)) for p in data.iterdir())


def _check_name(name: str) -> None:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name.encode('utf-8', 'replace').decode()}: a file name that is not UTF-8, expected one that a table can "
            "hold; rename the file."
        ) from error


def _splits(cases: Sequence[ScoredCase], data: Path, split: str, splits_file: Path | None) -> Splits | None:
    patients = {case.name: case.patient for case in cases}
    file = splits_file or data / "splits.json"
    if splits_file or file.exists():
        return read_splits(file, patients, patients)
    return make_splits(patients) if split != ALL else None
