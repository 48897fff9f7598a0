"""The four data sets of the bench: their cases, what is asked of them, and their splits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.datasets import Case, Splits, open_dataset
from sfumato.runs.sam.collect import CollectOptions

ACDC_SPLITS = Path(__file__).parent.parent / "acdc" / "splits.json"
SEQUENCES = {"train": range(1, 11), "calibration": range(11, 13), "test": range(13, 16)}
"""Of cvc_clinicdb, inclusive ranges of colonoscopies."""


@dataclass(frozen=True)
class BenchSet:
    """One data set.

    Args:
        cases: by name; `patient` is what splits and bootstraps keep together.
        splits: names of cases.
        options: what is asked.
    """

    cases: Mapping[str, Case]
    splits: Splits
    options: CollectOptions


def bench_sets(data: Path) -> dict[str, BenchSet]:
    """All four, from the folder that holds them."""
    return {
        "dsb2018": _by_index(data / "dsb2018", CollectOptions("instances", per_image=3, per_object=5)),
        "hippocampus": _by_index(
            data / "hippocampus_msd", CollectOptions("components", per_image=2, per_object=5, per_volume=1)
        ),
        "acdc": _acdc(data / "acdc"),
        "cvc_clinicdb": _clinicdb(data / "cvc_clinicdb"),
    }


def _by_index(folder: Path, options: CollectOptions) -> BenchSet:
    """Sorted names; every fifth is a test case, the one after it a calibration case."""
    cases = open_dataset(folder).cases
    names = sorted(cases)
    parts = {"test": names[::5], "calibration": names[1::5]}
    taken = {name for part in parts.values() for name in part}
    train = tuple(name for name in names if name not in taken)
    return BenchSet(cases, Splits(train, tuple(parts["calibration"]), tuple(parts["test"])), options)


def _acdc(folder: Path) -> BenchSet:
    splits = Splits(**{name: tuple(part) for name, part in json.loads(ACDC_SPLITS.read_text()).items()})
    options = CollectOptions("components", per_image=3, per_object=5, per_volume=1)
    return BenchSet(open_dataset(folder).cases, splits, options)


def _clinicdb(folder: Path) -> BenchSet:
    """Frames of one colonoscopy belong together."""
    lines = (folder / "SEQUENCES.txt").read_text().split("\n")
    bounds = [tuple(int(n) for n in line.split()) for line in lines if line.strip()]
    sequence = {frame: number for number, first, last in bounds for frame in range(first, last + 1)}
    cases = {
        name: replace(case, patient=f"sequence{sequence[int(name)]:02d}")
        for name, case in open_dataset(folder).cases.items()
    }
    parts = {
        part: tuple(n for n in cases if sequence[int(n)] in numbers) for part, numbers in SEQUENCES.items()
    }
    return BenchSet(cases, Splits(**parts), CollectOptions("components", per_image=2, per_object=5))
