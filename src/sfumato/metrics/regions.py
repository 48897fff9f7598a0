"""The regions that voxel metrics are shown for; the whole image alone flatters everybody."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError, UnknownNameError

NEAR = 5.0
"""Voxels: how far `near` reaches around predicted or true foreground."""
BOUNDARY = 2.0
"""Voxels: how far `boundary` reaches around a boundary of prediction or label."""
REGIONS = ("whole", "near", "foreground")
"""Shown side by side."""
ALL_REGIONS = (*REGIONS, "boundary")


def region_masks(
    prediction: np.ndarray, label: np.ndarray, distance: float = NEAR, regions: Sequence[str] = REGIONS
) -> dict[str, np.ndarray]:
    """Boolean masks (*grid) by region, from at most one distance transform.

    - `whole`: all voxels.
    - `near`: at most `distance` from predicted or true foreground.
    - `foreground`: predicted or true foreground.
    - `boundary`: at most `BOUNDARY` from a foreground voxel that has a face neighbour of another class in the same
      map, prediction or label. Interfaces of two classes count, the edge of the grid does not.

    Args:
        prediction: class numbers (*grid).
        label: class numbers (*grid); below 0 is unknown, in no region, and a class of its own for `boundary`.
        distance: Euclidean, in voxels.
        regions: which of `ALL_REGIONS`, in the order wanted.

    Raises:
        InputError: other shapes.
        UnknownNameError: no such region.

    Example:
        >>> label = np.zeros(20, int)
        >>> label[10:] = 1
        >>> masks = region_masks(label, label, regions=ALL_REGIONS)
        >>> [int(mask.sum()) for mask in masks.values()]
        [20, 15, 10, 5]
    """
    prediction, label = np.asarray(prediction), np.asarray(label)
    if prediction.shape != label.shape:
        raise InputError(f"Prediction {prediction.shape} and label {label.shape}, expected one shape.")
    for name in regions:
        if name not in ALL_REGIONS:
            raise UnknownNameError("region", name, ALL_REGIONS)
    known, foreground = label >= 0, (prediction > 0) | (label > 0)
    masks = {"whole": known, "foreground": foreground}
    if {"near", "boundary"} & set(regions):
        away = distance_to(boundary_voxels(prediction) | boundary_voxels(label))
        # A voxel outside has its nearest foreground voxel on a boundary: else a neighbour of that would be nearer.
        masks |= {"near": foreground | (away <= distance), "boundary": away <= BOUNDARY}
    return {name: masks[name] & known for name in regions}


def boundary_voxels(labels: np.ndarray) -> np.ndarray:
    """Foreground voxels (*grid) with a face neighbour of another class.

    Example:
        >>> boundary_voxels(np.array([0, 1, 1, 1, 2, 2])).tolist()
        [False, True, False, True, True, False]
    """
    found = np.zeros(labels.shape, bool)
    for axis in range(labels.ndim):
        ahead, behind = _pair(labels.ndim, axis)
        change = labels[ahead] != labels[behind]
        found[ahead] |= change
        found[behind] |= change
    return found & (labels > 0)


def _pair(dims: int, axis: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    whole = [slice(None)] * dims
    ahead, behind = whole.copy(), whole.copy()
    ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
    return tuple(ahead), tuple(behind)


def distance_to(mask: np.ndarray) -> np.ndarray:
    """Euclidean distance of every voxel (*grid) to the mask, in voxels; infinite where the mask is empty.

    Example:
        >>> distance_to(np.array([True, False, False])).tolist()
        [0.0, 1.0, 2.0]
    """
    from scipy import ndimage

    # scipy measures to voxels outside the array where the mask is empty.
    return np.asarray(ndimage.distance_transform_edt(~mask)) if mask.any() else np.full(mask.shape, np.inf)
