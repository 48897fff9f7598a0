"""Data sets on disk, with or without sentences, their splits, and seeded phantoms."""

from .folder import Case, Dataset, open_dataset
from .splits import SPLIT_NAMES, Splits, make_splits, patient_of, read_splits
from .synthetic import Phantom, make_phantoms, write_phantoms
from .text_leaks import LeakReport, find_leaks
from .text_table import TextCase, TextTable, read_text_table

__all__ = [
    "SPLIT_NAMES",
    "Case",
    "Dataset",
    "LeakReport",
    "Phantom",
    "Splits",
    "TextCase",
    "TextTable",
    "find_leaks",
    "make_phantoms",
    "make_splits",
    "open_dataset",
    "patient_of",
    "read_splits",
    "read_text_table",
    "write_phantoms",
]
