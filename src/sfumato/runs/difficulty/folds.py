"""Splits files for cross-validation, so that every case has a segmenter that never saw it."""

from __future__ import annotations

from pathlib import Path

from ...datasets import Splits, open_dataset
from ...datasets.splits import PATIENT_PATTERN, out_of_fold
from ...errors import ConfigError
from ...storage import write_json


def write_folds(
    data: Path,
    out: Path,
    folds: int = 3,
    splits_file: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    seed: int = 0,
) -> list[Path]:
    """Write `fold0.json`, `fold1.json`, ...: fold k tests on its part of the cases and trains on the others.

    Args:
        data: data set folder.
        out: folder for the files, made if need be.
        folds: how many; patients are dealt out evenly.
        splits_file: only the training cases of these splits are dealt out; the others appear in no fold.
        patient_pattern: tells patients apart.
        seed: shuffles the patients.

    Raises:
        ConfigError: fewer than two folds, or fewer patients than folds.
        DatasetError: a data set or splits that cannot be used.
    """
    dataset = open_dataset(data, patient_pattern)
    names = dataset.splits(splits_file).train if splits_file else tuple(sorted(dataset.cases))
    patients = [dataset.cases[name].patient for name in names]
    if not 2 <= folds <= len(set(patients)):
        raise ConfigError(
            f"--folds {folds}, expected from 2 to the number of patients, {len(set(patients))}; choose another."
        )
    number = out_of_fold(patients, folds, seed)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for fold in range(folds):
        train = tuple(name for name, f in zip(names, number, strict=True) if f != fold)
        held_out = tuple(name for name, f in zip(names, number, strict=True) if f == fold)
        path = out / f"fold{fold}.json"
        write_json(path, Splits(train, (), held_out).to_json())
        written.append(path)
    return written
