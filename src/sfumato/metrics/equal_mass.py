"""Expected calibration error with bins of equal mass, from a fine histogram of the doubt."""

from __future__ import annotations

import numpy as np


def equal_mass_ece(doubts: np.ndarray, bins: int, unit: float = 1.0) -> tuple[float, float]:
    """ECE over `bins` bins of N / bins voxels each, in increasing order of doubt, and by how much it can be off.

    Sum over bins of |hits - summed confidence| / N (equal-mass binning: Nguyen and O'Connor, 2015). A voxel on a cut
    counts in both bins, in parts; equal confidences are spread evenly over the cut. So is the content of a fine bin,
    which is where this differs from sorting the voxels: a cut through a fine bin of g voxels with c hits moves at most
    what the two extreme orders of the hits differ from the even one, and the bin's width in confidence.

    Args:
        doubts: (fine bins, 3) voxels, summed confidence in units of 1 / `unit`, hits; fine bin i holds the doubts
            1 - confidence whose float32 begins with the 16 bits i.
        bins: of equal mass.
        unit: of the summed confidence.

    Returns:
        The error in [0, 1] and its bound; NaN without voxels.

    Example:
        >>> doubts = np.zeros((4, 3), int)
        >>> doubts[0], doubts[2] = (4, 4, 2), (4, 2, 2)
        >>> round(equal_mass_ece(doubts, 2)[0], 3)
        0.25
    """
    kept = np.flatnonzero(doubts[:, 0])
    if not kept.size:
        return float("nan"), float("nan")
    size, confidence, hits = doubts[kept].astype(float).T
    confidence = confidence / unit
    count = size.sum()
    cuts = np.arange(bins + 1) * (count / bins)
    seen, sure, right = (np.append(0, np.cumsum(v)) for v in (size, confidence, hits))
    gap = np.diff(np.interp(cuts, seen, right)) - np.diff(np.interp(cuts, seen, sure))
    moved = _moved(cuts[1:-1], kept, size, hits, seen)
    return float(np.abs(gap).sum() / count), float(2 * moved.sum() / count)


def _moved(
    cuts: np.ndarray, kept: np.ndarray, size: np.ndarray, hits: np.ndarray, seen: np.ndarray
) -> np.ndarray:
    place = np.clip(np.searchsorted(seen, cuts) - 1, 0, len(size) - 1)
    g, c, m = size[place], hits[place], np.clip(cuts - seen[place], 0, size[place])
    even = m * c / g
    extreme = np.maximum(np.minimum(c, m) - even, even - np.maximum(0, c - (g - m)))
    edges = (np.stack([kept[place], kept[place] + 1]).astype(np.uint32) << 16).view(np.float32)
    # A doubt was rounded to float32 before it was binned, which the small factor pays for.
    width = (edges[1] - edges[0]).astype(float) * 1.001
    return extreme + m * (g - m) / g * width
