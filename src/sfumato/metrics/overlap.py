"""Overlap of two label maps."""

from __future__ import annotations

import numpy as np


def dice_per_class(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Dice of each foreground class: 2 |A and B| / (|A| + |B|), in [0, 1].

    Args:
        prediction: class numbers, any shape.
        label: class numbers, the same shape; voxels below 0 are ignored.
        classes: number of classes, background included.

    Returns:
        (classes - 1,) float64; NaN where a class is in neither map.

    Example:
        >>> dice_per_class(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 4).round(3).tolist()
        [0.667, 0.667, nan]
    """
    known = label >= 0
    joint = np.bincount(
        prediction[known].astype(np.int64) * classes + label[known].astype(np.int64),
        minlength=classes * classes,
    ).reshape(classes, classes)
    both = np.diag(joint)[1:].astype(float)
    sizes = (joint.sum(0) + joint.sum(1))[1:].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(sizes > 0, 2 * both / sizes, np.nan)
