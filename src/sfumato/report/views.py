"""Planes of a volume as a reader expects them, with the letters of the patient's directions at their edges.

Radiological convention: the patient's right is on the left of axial and coronal views; sagittal views look
from the patient's left, anterior on the left. So in every view rows and columns run from the positive
end (right, anterior, superior) of their axis to the negative one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np

from ..imaging import Geometry

CONVENTION = (
    "Radiological convention: the patient's right (R) is on the left of axial and coronal views, anterior "
    "(A) on the left of sagittal views."
)
LETTERS = (("R", "L"), ("A", "P"), ("S", "I"))
"""Positive and negative end of each RAS+ world axis."""
PLANES = (("Axial", 2, 1, 0), ("Coronal", 1, 2, 0), ("Sagittal", 0, 2, 1))
"""Title, and the world axes of the normal, the rows and the columns."""
MARGIN = 0.2
"""Added on each side of the region of interest, as a share of its length."""
LEAST_VOXELS = 64
"""A view is never cropped to fewer voxels along an axis (or to less than that many of its finest spacing)."""
WORTH_CROPPING = 0.7
"""Axes are cropped only where less than this share of them would be left."""
LARGEST_SIDE = 1024
"""Longer planes are thinned out for display."""


@dataclass(frozen=True)
class View:
    """One plane to show.

    Args:
        title: `Axial`, `Coronal`, `Sagittal` or `Picture`.
        index: of the plane in an array (*grid): a number along the normal axis, slices along the others.
        transpose: whether rows and columns are exchanged after indexing.
        normal: (grid axis, plane number, planes there are); None for pictures.
        spacing: millimetres (pixels for pictures) per row and per column as shown.
        centre: (row, column) of the point of interest as shown.
        letters: at the left, right, top and bottom edge; None for pictures.
        share: (rows, columns) of the whole plane that is shown, in (0, 1].
    """

    title: str
    index: tuple[int | slice, ...]
    transpose: bool
    normal: tuple[int, int, int] | None
    spacing: tuple[float, float]
    centre: tuple[float, float]
    letters: tuple[str, str, str, str] | None
    share: tuple[float, float]

    def take(self, array: np.ndarray) -> np.ndarray:
        """The plane (..., rows, columns) of an array (..., *grid); only this plane is read."""
        plane = array[(..., *self.index)]
        return plane.swapaxes(-1, -2) if self.transpose else plane


def views_of(geometry: Geometry, centre: Sequence[int], segmentation: np.ndarray) -> tuple[View, ...]:
    """The planes through a voxel: axial, coronal and sagittal for volumes, the picture itself for pictures.

    Grids that are rotated against the patient are shown along their own axes, with the letters of the nearest
    direction. Planes that are one voxel thin are left out where others remain.
    """
    crops = _crops(segmentation, centre, geometry.spacing)
    if geometry.dims == 2:
        return (_view("Picture", geometry, centre, crops, (None, 0, 1), (False, False), None),)
    orientation = nib.orientations.io_orientation(geometry.affine)
    grid_axis = {int(world): axis for axis, (world, _) in enumerate(orientation)}
    rising = [bool(direction > 0) for _, direction in orientation]
    made, thin = [], []
    for title, normal, rows, columns in PLANES:
        axes = (grid_axis[normal], grid_axis[rows], grid_axis[columns])
        flips = (rising[axes[1]], rising[axes[2]])
        view = _view(title, geometry, centre, crops, axes, flips, (*LETTERS[columns], *LETTERS[rows]))
        (thin if 1 in (geometry.shape[axes[1]], geometry.shape[axes[2]]) else made).append(view)
    return tuple(made or thin)


def _view(title, geometry: Geometry, centre, crops, axes, flips, letters) -> View:
    normal, *plane = axes
    index: list[int | slice] = [int(c) for c in centre]
    spacing, middle, share = [], [], []
    for axis, flip in zip(plane, flips, strict=True):
        low, high = crops[axis]
        step = -(-(high - low) // LARGEST_SIDE)
        index[axis] = slice(high - 1, low - 1 if low else None, -step) if flip else slice(low, high, step)
        spacing.append(geometry.spacing[axis] * step)
        middle.append((high - 1 - centre[axis] if flip else centre[axis] - low) / step)
        share.append((high - low) / geometry.shape[axis])
    where = None if normal is None else (normal, int(centre[normal]), geometry.shape[normal])
    return View(
        title, tuple(index), plane[0] > plane[1], where, tuple(spacing), tuple(middle), letters, tuple(share)
    )


def _crops(
    segmentation: np.ndarray, centre: Sequence[int], spacing: Sequence[float]
) -> list[tuple[int, int]]:
    """Per axis the range to show: what was segmented in the planes through the centre, and the centre, with a
    margin; everything where nothing was segmented."""
    low, high = [int(c) for c in centre], [int(c) + 1 for c in centre]
    empty = True
    for plane in range(segmentation.ndim) if segmentation.ndim == 3 else (None,):
        axes = [a for a in range(segmentation.ndim) if a != plane]
        found = (segmentation if plane is None else segmentation.take(centre[plane], axis=plane)) > 0
        for at, axis in enumerate(axes):
            hit = np.flatnonzero(found.any(axis=1 - at))
            if len(hit):
                empty = False
                low[axis], high[axis] = min(low[axis], int(hit[0])), max(high[axis], int(hit[-1]) + 1)
    if empty:
        return [(0, n) for n in segmentation.shape]
    return [
        _widened(a, b, n, max(2, round(LEAST_VOXELS * min(spacing) / s)))
        for a, b, n, s in zip(low, high, segmentation.shape, spacing, strict=True)
    ]


def _widened(low: int, high: int, length: int, least: int) -> tuple[int, int]:
    pad = max(round(MARGIN * (high - low)), -(-(least - (high - low)) // 2))
    low, high = max(0, low - pad), min(length, high + pad)
    return (low, high) if high - low < WORTH_CROPPING * length else (0, length)


def tilt(affine: np.ndarray) -> float:
    """Largest angle between a grid axis and the nearest patient axis, in degrees.

    Example:
        >>> tilt(np.diag([-1.0, 2.0, 3.0, 1.0]))
        0.0
    """
    cosines = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).max(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines, 0.0, 1.0))).max())
