"""From an uncertainty map to one score per case: the aggregations of the literature, on plain arrays.

Each takes a map (*grid) of finite values and the predicted class numbers (*grid), gives a float in the map's units,
and is higher where the map is. None looks at the true label.

Where nothing was predicted there is no foreground and no boundary: `foreground_mean`, `boundary_excluded` and
`distance_weighted` are then the mean of the whole map and `component_sum` is 0. A map without voxels gives NaN.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from .regions import BOUNDARY, NEAR, boundary_voxels, distance_to

PATCH = 10
"""Voxels along an edge of the cubic patch (Kahl et al., 2024, "ValUES")."""


def mean(values: np.ndarray, segmentation: np.ndarray) -> float:
    """Mean over all voxels.

    Example:
        >>> mean(np.array([0.0, 1.0]), np.array([0, 1]))
        0.5
    """
    values, _ = _checked(values, segmentation)
    return float(values.mean()) if values.size else float("nan")


def foreground_mean(values: np.ndarray, segmentation: np.ndarray) -> float:
    """Mean over the predicted foreground, or over everything where nothing was predicted.

    Example:
        >>> foreground_mean(np.array([0.0, 1.0]), np.array([0, 1]))
        1.0
    """
    values, segmentation = _checked(values, segmentation)
    return _mean_over(values, segmentation > 0)


def boundary_excluded(values: np.ndarray, segmentation: np.ndarray, distance: float = BOUNDARY) -> float:
    """Mean over the voxels more than `distance` voxels from the predicted boundary, where any map is uncertain.

    The mean of everything where no voxel is that far away.

    Example:
        >>> boundary_excluded(np.array([0, 0, 9, 9, 9, 9, 9, 3.0]), np.array([0, 0, 0, 0, 1, 0, 0, 0]))
        1.0
    """
    values, segmentation = _checked(values, segmentation)
    return _mean_over(values, distance_to(boundary_voxels(segmentation)) > distance)


def top_patch(values: np.ndarray, segmentation: np.ndarray, edge: int = PATCH) -> float:
    """Largest mean over a cubic patch inside the grid; the patch is cut to the grid along a shorter axis.

    Raises:
        InputError: an edge below 1.

    Example:
        >>> top_patch(np.array([0.0, 1.0, 3.0, 0.0]), np.zeros(4, int), 2)
        2.0
    """
    values, _ = _checked(values, segmentation)
    if edge < 1:
        raise InputError(f"A patch of {edge} voxels, expected at least 1.")
    if not values.size:
        return float("nan")
    means = values
    for axis, length in enumerate(values.shape):
        width = min(edge, length)
        total = np.cumsum(np.insert(means, 0, 0, axis=axis), axis=axis)
        ahead = np.take(total, np.arange(width, length + 1), axis=axis)
        means = (ahead - np.take(total, np.arange(length + 1 - width), axis=axis)) / width
    return float(means.max())


def distance_weighted(values: np.ndarray, segmentation: np.ndarray, reach: float = NEAR) -> float:
    """Mean weighted by min(distance to the predicted boundary, reach) / reach: a boundary is always uncertain.

    The mean of everything where every weight is 0.

    Example:
        >>> round(distance_weighted(np.array([1.0, 0.0, 1.0]), np.array([1, 0, 0])), 6)
        0.666667
    """
    values, segmentation = _checked(values, segmentation)
    weight = np.minimum(distance_to(boundary_voxels(segmentation)), reach) / reach
    total = float(weight.sum())
    return float((values * weight).sum() / total) if total else mean(values, segmentation)


def component_sum(values: np.ndarray, segmentation: np.ndarray) -> float:
    """Sum, over the connected components of the predicted foreground, of the component's mean; 0 without one.

    Voxels are connected by faces, whatever their foreground class.

    Example:
        >>> component_sum(np.array([0.5, 0.1, 0.25, 0.75]), np.array([1, 0, 1, 2]))
        1.0
    """
    from scipy import ndimage

    values, segmentation = _checked(values, segmentation)
    if not values.size:
        return float("nan")
    numbered, count = ndimage.label(segmentation > 0)  # type: ignore[misc]
    return float(np.sum(ndimage.mean(values, numbered, np.arange(1, count + 1)))) if count else 0.0


AGGREGATIONS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mean": mean,
    "foreground_mean": foreground_mean,
    "boundary_excluded": boundary_excluded,
    "top_patch": top_patch,
    "distance_weighted": distance_weighted,
    "component_sum": component_sum,
}
"""By name, with their usual settings."""


def _checked(values: np.ndarray, segmentation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, segmentation = np.asarray(values), np.asarray(segmentation)
    if values.shape != segmentation.shape:
        raise InputError(f"Map {values.shape} and segmentation {segmentation.shape}, expected one shape.")
    return values.astype(np.float64), segmentation


def _mean_over(values: np.ndarray, mask: np.ndarray) -> float:
    if not values.size:
        return float("nan")
    return float(values[mask].mean()) if mask.any() else float(values.mean())
