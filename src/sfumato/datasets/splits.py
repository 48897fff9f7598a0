"""Which cases fit, which calibrate, which test: always by patient, always written down."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import DatasetError

SplitName = Literal["train", "calibration", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "calibration", "test")
PATIENT_PATTERN = r"^(.+?)(?:[_-](?:frame|slice|phase|time|visit|session|ses|t|z|ed|es)[_-]?\d*)*$"
"""The part of a case's name that names the patient: everything before a frame, slice, phase or visit."""


def patient_of(case: str, pattern: str = PATIENT_PATTERN) -> str:
    """The patient a case belongs to, by the first group of `pattern`.

    Example:
        >>> patient_of("patient001_frame12"), patient_of("hippocampus_001")
        ('patient001', 'hippocampus_001')
    """
    match = re.match(pattern, case, flags=re.IGNORECASE)
    return match.group(1) if match and match.groups() else case


@dataclass(frozen=True)
class Splits:
    """Case names of the three splits; a patient is in one of them only."""

    train: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]

    def __getitem__(self, name: str) -> tuple[str, ...]:
        if name not in SPLIT_NAMES:
            raise DatasetError(
                f"There is no split called {name!r}; expected one of {', '.join(SPLIT_NAMES)}."
            )
        return getattr(self, name)

    def to_json(self) -> dict[str, list[str]]:
        """As `splits.json` holds it."""
        return {name: list(self[name]) for name in SPLIT_NAMES}


def make_splits(patients: Mapping[str, str], seed: int | None = None) -> Splits:
    """One patient in five tests, one in five calibrates, three train.

    Args:
        patients: patient of each case.
        seed: shuffles the patients; without one they are taken in sorted order, so that position modulo 5
            gives 0 test, 1 calibration, 2 to 4 train.

    Raises:
        DatasetError: fewer than three patients.

    Example:
        >>> make_splits({f"case{i}": f"case{i}" for i in range(5)})
        Splits(train=('case2', 'case3', 'case4'), calibration=('case1',), test=('case0',))
    """
    order = sorted(set(patients.values()))
    if len(order) < 3:
        raise DatasetError(
            f"{len(order)} patients, expected at least 3 for a train, a calibration and a test split; "
            "write a splits.json, or tell cases apart by a patient pattern."
        )
    if seed is not None:
        np.random.default_rng(seed).shuffle(order)
    fold = {patient: index % 5 for index, patient in enumerate(order)}
    chosen: dict[str, list[str]] = {name: [] for name in SPLIT_NAMES}
    for case in sorted(patients):
        chosen[{0: "test", 1: "calibration"}.get(fold[patients[case]], "train")].append(case)
    return Splits(*(tuple(chosen[name]) for name in SPLIT_NAMES))


def read_splits(path: Path, known: Iterable[str], patients: Mapping[str, str]) -> Splits:
    """Read `{"train": [...], "calibration": [...], "test": [...]}` and check it against the data set.

    Raises:
        DatasetError: a missing key, a case that is not there or named twice, or a patient in two splits.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable splits file ({error}); expected JSON.") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(n), list) for n in SPLIT_NAMES):
        raise DatasetError(
            f"{path}: expected an object with the lists {', '.join(SPLIT_NAMES)}; folds as nnU-Net keeps "
            "them have no test part, write one."
        )
    splits = Splits(*(tuple(map(str, content[n])) for n in SPLIT_NAMES))
    missing = sorted({c for n in SPLIT_NAMES for c in splits[n]} - set(known))
    if missing:
        raise DatasetError(
            f"{path}: {len(missing)} cases are not in the data set, the first is {missing[0]!r}; expected "
            "cases that have an image and a label."
        )
    for name in SPLIT_NAMES:
        repeated = [case for case, count in Counter(splits[name]).items() if count > 1]
        if repeated:
            raise DatasetError(f"{path}: {repeated[0]!r} is named twice in {name}, expected each case once.")
    check_no_leak(splits, patients)
    return splits


def check_no_leak(splits: Splits, patients: Mapping[str, str]) -> None:
    """Refuse splits that share a patient."""
    owner: dict[str, str] = {}
    for name in SPLIT_NAMES:
        for case in splits[name]:
            patient = patients.get(case, case)
            if owner.setdefault(patient, name) != name:
                raise DatasetError(
                    f"{case}: patient {patient!r} is in both {owner[patient]} and {name}, expected one split "
                    "per patient; move the case."
                )


def out_of_fold(patients: Sequence[str], folds: int, seed: int = 0) -> np.ndarray:
    """A fold number per case, equal for all cases of a patient and balanced over patients.

    Args:
        patients: of each case.
        folds: how many; with fewer patients the last folds stay empty.
        seed: shuffles the patients.
    """
    unique = sorted(set(patients))
    order = np.random.default_rng(seed).permutation(len(unique))
    fold = {unique[p]: i % folds for i, p in enumerate(order)}
    return np.array([fold[p] for p in patients])
