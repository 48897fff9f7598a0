"""Ranking and calibration of the same voxels in one pass."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .calibration_state import CalibrationState, check_unit
from .histogram import ScoreHistogram, check_finite
from .kernels import add_both, uses_numba
from .keys import chunks, flat_pair


def accumulate(
    histogram: ScoreHistogram,
    calibration: CalibrationState,
    scores: np.ndarray,
    errors: np.ndarray,
    confidences: np.ndarray,
    backend: str = "auto",
) -> None:
    """Add voxels to a histogram and to a calibration state, as `update` and `update_confidence` would.

    Args:
        histogram: gets scores and errors.
        calibration: gets confidences and where there is no error; made without classes.
        scores: any shape, finite, higher = more likely wrong.
        errors: the same shape, true or 1 where the given label is wrong.
        confidences: the same shape, probability of the given label in [0, 1].
        backend: `numpy`, `numba` (the `fast` extra) or `auto`; all give the same counters.

    Raises:
        InputError: other shapes, values that are not finite or outside [0, 1], a sum that could overflow, or a
            calibration state with classes. Nothing was added then.

    Example:
        >>> histogram, calibration = ScoreHistogram(), CalibrationState()
        >>> accumulate(histogram, calibration, np.array([0.1, 0.9]), np.array([0, 1]), np.array([0.9, 0.6]))
        >>> histogram.selective().auroc.value, round(calibration.ece, 6)
        (1.0, 0.35)
    """
    scores, errors = flat_pair(scores, errors)
    confidences = np.ravel(np.asarray(confidences))
    if confidences.shape != scores.shape:
        raise InputError(f"{confidences.size} confidences and {scores.size} scores, expected as many.")
    if calibration.classes:
        raise InputError(
            f"A calibration state of {calibration.classes} classes, expected one for confidences alone."
        )
    check_finite(scores)
    check_unit(confidences[None])
    calibration.check_room(scores.size)
    compiled = uses_numba(backend, scores.size)
    kind = np.float32 if confidences.dtype == np.float32 else np.float64
    for part in chunks(scores.size):
        add_both(
            histogram.counts,
            calibration.table,
            calibration.doubts,
            np.ascontiguousarray(scores[part], np.float32),
            np.ascontiguousarray(confidences[part], kind),
            np.ascontiguousarray(errors[part]),
            compiled,
        )
    calibration.count += scores.size
