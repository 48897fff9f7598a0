"""How much harder a case is than its size explains: its scale below the line that the reference's scales follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import InputError
from ...methods.sample_difficulty.size import SizeTrend
from .table import ERROR, UNDEFINED, Row

SIZES = ("scale", "predicted", "voxels", "slices", "picture")
"""Columns of a reference that the lines are fitted on; `picture` is 1 where the scale is along a picture's height."""


def size_columns(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """Scale and sizes of each case, (cases,) float64.

    The predicted foreground is that of segmenters that never saw the case, NaN without them. The label's would let its
    mistakes into a score that is free of labels.
    """
    found = {
        "scale": [row[row["convention"]] for row in rows],
        "predicted": [row["predicted_voxels"] + 1 for row in rows],
        "voxels": [row["voxels"] for row in rows],
        "slices": [row["slices"] for row in rows],
        "picture": [row["axis"] == "H" for row in rows],
    }
    return {name: np.array(values, float) for name, values in found.items()}


def add_size_residual(rows: Sequence[Row], reference: Mapping[str, np.ndarray]) -> None:
    """Fill `size_residual`: ln units, higher = harder; undefined where sizes do not vary or cases are too few.

    Args:
        rows: with their scales.
        reference: columns of `size_columns`.
    """
    for row in rows:
        row["size_residual"] = UNDEFINED
    for picture in (0.0, 1.0):
        own = [row for row in rows if row["status"] != ERROR and (row["axis"] == "H") == bool(picture)]
        alike = {name: values[reference["picture"] == picture] for name, values in reference.items()}
        trend = _trend(alike) if own else None
        if trend is not None:
            columns = size_columns(own)
            found = trend.residual(columns["scale"], {name: columns[name] for name in trend.slopes})
            for row, value in zip(own, found, strict=True):
                row["size_residual"] = float(value)


LINES = (("predicted", "slices"), ("predicted",), ("voxels", "slices"), ("voxels",))
"""Sizes of which a scale may be a function, the most telling first."""


def _trend(columns: Mapping[str, np.ndarray]) -> SizeTrend | None:
    """The first line that can be fitted; None where there is none."""
    for names in LINES:
        try:
            return SizeTrend.fit(columns["scale"], {name: columns[name] for name in names})
        except InputError:  # too few cases, or sizes that do not vary apart: the next line
            continue
    return None
