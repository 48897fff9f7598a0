"""Data sets on disk, their splits, and seeded phantoms."""

from .folder import Case, Dataset, open_dataset
from .splits import SPLIT_NAMES, Splits, make_splits, patient_of, read_splits
from .synthetic import Phantom, make_phantoms, write_phantoms

__all__ = [
    "SPLIT_NAMES",
    "Case",
    "Dataset",
    "Phantom",
    "Splits",
    "make_phantoms",
    "make_splits",
    "open_dataset",
    "patient_of",
    "read_splits",
    "write_phantoms",
]
