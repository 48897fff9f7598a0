"""CVC-ClinicDB with the sentences of MedVLSM's prompts, split by colonoscopy."""

from __future__ import annotations

from pathlib import Path

from sfumato.datasets import Splits, read_text_table
from sfumato.datasets.splits import check_no_leak

FOLDER = "cvc_clinicdb"
SEQUENCES = {"train": range(1, 11), "calibration": range(11, 13), "test": range(13, 16)}
"""Colonoscopies of each part. The parts that come with the prompts share all of them."""


def sequence_splits(data: Path) -> Splits:
    """Frames by the number of their colonoscopy.

    Args:
        data: folder that holds `cvc_clinicdb`.
    """
    cases = read_text_table(data / FOLDER).cases
    number = {name: int(case.case.patient.rpartition("_")[2]) for name, case in cases.items()}
    parts = {part: tuple(n for n in cases if number[n] in range_) for part, range_ in SEQUENCES.items()}
    splits = Splits(**parts)
    check_no_leak(splits, {name: case.case.patient for name, case in cases.items()})
    return splits
