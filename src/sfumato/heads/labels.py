"""The labels of the cases that a head is fitted on."""

from __future__ import annotations

from torch import Tensor

from ..errors import InputError
from ..types import Batch

IGNORE = -1
"""The label of voxels that do not count."""


def label_of(case: Batch, index: int) -> Tensor:
    """The case's label.

    Raises:
        InputError: there is none.
    """
    if case.label is None:
        raise InputError(f"Case {index} carries no label, expected one for fitting.")
    return case.label
