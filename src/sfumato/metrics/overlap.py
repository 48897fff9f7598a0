"""Overlap and distance of two label maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError


def dice_per_class(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Dice of each foreground class: 2 |A and B| / (|A| + |B|), in [0, 1] (Dice, 1945).

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
    both, sizes = _counts(prediction, label, classes)
    return _ratio(2 * both, sizes)


def iou_per_class(prediction: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    """Intersection over union of each foreground class: |A and B| / |A or B|, in [0, 1] (Jaccard, 1912).

    Arguments and undefined cases as for `dice_per_class`.

    Example:
        >>> iou_per_class(np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2]), 4).tolist()
        [0.5, 0.5, nan]
    """
    both, sizes = _counts(prediction, label, classes)
    return _ratio(both, sizes - both)


def hd95_per_class(
    prediction: np.ndarray, label: np.ndarray, classes: int, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """95th percentile of the Hausdorff distance of each foreground class.

    The surface of a class are its voxels with a face neighbour outside it; the edge of the grid is outside. From each
    surface voxel of one map the distance to the nearest one of the other is taken; the result is the larger of the
    two directions' 95th percentiles (linear interpolation), as MONAI computes it.

    Args:
        prediction: class numbers (*grid).
        label: class numbers (*grid); voxels below 0 belong to no class in either map.
        classes: number of classes, background included.
        spacing: voxel size per axis, in mm; 1 by default, which gives voxels.

    Returns:
        (classes - 1,) float64 >= 0, in units of the spacing; NaN where a class is missing in either map.

    Raises:
        InputError: other shapes, or not one positive spacing per axis.

    Example:
        >>> a, b = np.zeros((2, 9, 9), int)
        >>> a[2:5, 2:5], b[2:5, 4:7] = 1, 1
        >>> hd95_per_class(a, b, 3, (1.0, 0.5)).tolist()
        [1.0, nan]
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    size = np.ones(label.ndim) if spacing is None else np.asarray(spacing, float)
    if prediction.shape != label.shape:
        raise InputError(f"Prediction {prediction.shape} and label {label.shape}, expected one shape.")
    if size.shape != (label.ndim,) or not (size > 0).all():
        raise InputError(f"Spacing {spacing}, expected {label.ndim} positive numbers.")
    prediction = np.where(label < 0, -1, prediction)
    return np.array([_hd95(prediction == c, label == c, size) for c in range(1, classes)])


def _hd95(first: np.ndarray, second: np.ndarray, spacing: np.ndarray) -> float:
    if not first.any() or not second.any():
        return float("nan")
    either = first | second
    box = []
    for axis in range(either.ndim):
        there = np.flatnonzero(either.any(axis=tuple(a for a in range(either.ndim) if a != axis)))
        box.append(slice(there[0], there[-1] + 1))
    one, other = _surface(first[tuple(box)]), _surface(second[tuple(box)])
    return max(_directed(one, other, spacing), _directed(other, one, spacing))


def _surface(mask: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    return mask & ~np.asarray(ndimage.binary_erosion(mask), dtype=bool)


def _directed(start: np.ndarray, goal: np.ndarray, spacing: np.ndarray) -> float:
    from scipy import ndimage

    distance = np.asarray(ndimage.distance_transform_edt(~goal, sampling=spacing))
    return float(np.percentile(distance[start], 95))


def _counts(prediction: np.ndarray, label: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    prediction, label = np.asarray(prediction), np.asarray(label)
    known = label >= 0
    joint = np.bincount(
        prediction[known].astype(np.int64) * classes + label[known].astype(np.int64),
        minlength=classes * classes,
    ).reshape(classes, classes)
    return np.diag(joint)[1:].astype(float), (joint.sum(0) + joint.sum(1))[1:].astype(float)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
