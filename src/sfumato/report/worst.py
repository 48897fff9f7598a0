"""Where to look first: the centre of the worst region of a map."""

from __future__ import annotations

from functools import reduce

import numpy as np
from scipy.ndimage import gaussian_filter

SIDE = {2: 512, 3: 96}
"""The search runs on a grid of at most this many blocks a side, by number of axes."""
SMOOTHING_VOXELS = 2.0
SMOOTHING_SHARE = 0.02
"""Width of the smoothing: this many of the smallest voxel spacing, or this share of the longest side if
that is more. A region must be about that large to count; a lone bright voxel does not."""


def block_mean(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Mean of blocks of `factors` voxels, float32; the blocks at the far end may be smaller.

    Example:
        >>> block_mean(np.array([[1, 3, 8], [5, 7, 8]], np.uint8), (2, 2))
        array([[4., 8.]], dtype=float32)
    """
    if all(f == 1 for f in factors):
        return array.astype(np.float32)
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        return block_mean(array.T, factors[::-1]).T  # in the order in which it lies in memory
    # One slab at a time: a large map is never held twice.
    slabs = [
        _sums(array[first : first + factors[0]].sum(axis=0, dtype=np.float32), factors[1:])
        for first in range(0, array.shape[0], factors[0])
    ]
    counts = [np.diff(np.append(np.arange(0, n, f), n)) for n, f in zip(array.shape, factors, strict=True)]
    return (np.stack(slabs) / reduce(np.multiply.outer, counts)).astype(np.float32)


def _sums(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    for axis, factor in enumerate(factors):
        if factor > 1:
            array = np.add.reduceat(array, np.arange(0, array.shape[axis], factor), axis=axis)
    return array


def worst_centre(
    values: np.ndarray, spacing: tuple[float, ...], segmentation: np.ndarray
) -> tuple[tuple[int, ...], bool]:
    """The voxel at the maximum of the smoothed map.

    Args:
        values: (*grid), higher = more likely wrong.
        spacing: millimetres per voxel along each axis.
        segmentation: (*grid); where the map is the same everywhere, its middle is taken instead.

    Returns:
        The index, and whether the map singled it out.
    """
    factors = tuple(-(-n // SIDE[values.ndim]) for n in values.shape)
    coarse = block_mean(values, factors)
    extent = max(n * s for n, s in zip(values.shape, spacing, strict=True))
    width = max(SMOOTHING_VOXELS * min(spacing), SMOOTHING_SHARE * extent)
    sigma = [width / (s * f) for s, f in zip(spacing, factors, strict=True)]
    found = bool(np.ptp(coarse) > 1e-5 * max(float(np.abs(coarse).max()), 1e-12))
    if found:
        # Zeros outside: a region counts by how much of it is there; one that the border cuts is not doubled.
        smooth = gaussian_filter(coarse - coarse.min(), sigma, mode="constant", truncate=3.0)
        block = np.unravel_index(int(smooth.argmax()), smooth.shape)
    else:
        mass = block_mean(segmentation > 0, factors)
        block = _centre_of_mass(mass if mass.any() else np.ones_like(mass))
    middle = (int(b) * f + f // 2 for b, f in zip(block, factors, strict=True))
    return tuple(min(m, n - 1) for m, n in zip(middle, values.shape, strict=True)), found


def _centre_of_mass(mass: np.ndarray) -> tuple[int, ...]:
    total = mass.sum(dtype=np.float64)
    sums = (
        mass.sum(axis=tuple(a for a in range(mass.ndim) if a != axis), dtype=np.float64)
        for axis in range(mass.ndim)
    )
    return tuple(round(float(s @ np.arange(len(s)) / total)) for s in sums)
