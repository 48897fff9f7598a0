"""The three regions every voxel metric is shown for; the whole image alone flatters everybody."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

NEAR = 5.0
"""Voxels: how far `near` reaches around predicted or true foreground."""
REGIONS = ("whole", "near", "foreground")


def region_masks(prediction: np.ndarray, label: np.ndarray, distance: float = NEAR) -> dict[str, np.ndarray]:
    """Masks (*grid) of the whole image, the neighbourhood of the foreground, and the foreground.

    Args:
        prediction: class numbers (*grid).
        label: class numbers (*grid); below 0 is unknown and in no region.
        distance: Euclidean, in voxels; `near` holds all voxels at most that far from predicted or true foreground.
    """
    known = label >= 0
    foreground = (prediction > 0) | (label > 0)
    if not foreground.any():
        near = np.zeros_like(known)
    else:
        near = np.asarray(ndimage.distance_transform_edt(~foreground)) <= distance
    return {"whole": known, "near": near & known, "foreground": foreground & known}
