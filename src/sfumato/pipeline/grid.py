"""From the file's grid to the network's and back.

The network's grid of a volume is RAS+ oriented, with the slice axis first for 2-D networks, and resampled
only when the segmenter asks for a spacing or the axes are sheared. Flips and transpositions are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import nibabel as nib
import numpy as np
from scipy import ndimage

from ..imaging import Geometry
from ..imaging.geometry import SHEAR_TOLERANCE

THICK_SLICE = 1.2
"""A grid axis is the slice axis when its spacing exceeds the finest by this factor; else the last axis is."""
ROUNDING = 1e-4
"""Shares of a voxel that are rounding noise when sides are counted."""


@dataclass(frozen=True)
class ModelGrid:
    """How one file's grid maps to the network's.

    Args:
        geometry: of the file.
        slice_first: move the slice axis to the front (2-D networks on volumes).
        spacing: resample to these millimetres along R, A, S, 0 for an axis to keep; None keeps the file's.

    Example:
        >>> geometry = Geometry((4, 5, 6), np.diag([-1.0, 1.0, 3.0, 1.0]))
        >>> ModelGrid(geometry, slice_first=True).to_network(np.zeros((1, 4, 5, 6)), order=1).shape
        (1, 6, 4, 5)
    """

    geometry: Geometry
    slice_first: bool = False
    spacing: tuple[float, ...] | None = None

    @cached_property
    def _orientation(self) -> np.ndarray:
        return nib.orientations.io_orientation(self.geometry.affine)

    @cached_property
    def _ras_affine(self) -> np.ndarray:
        inverse = nib.orientations.inv_ornt_aff(self._orientation, self.geometry.shape)
        return self.geometry.affine @ inverse

    @cached_property
    def _ras_shape(self) -> tuple[int, ...]:
        source = np.argsort(self._orientation[:, 0])
        return tuple(self.geometry.shape[int(axis)] for axis in source)

    @cached_property
    def _resampling(self) -> tuple[np.ndarray, tuple[int, ...]] | None:
        """Matrix from network voxel to RAS voxel, and the network's shape; None when nothing is resampled."""
        if self.geometry.dims == 2:
            return None
        matrix = self._ras_affine[:3, :3]
        spacing = np.linalg.norm(matrix, axis=0)
        asked = np.array(self.spacing if self.spacing is not None else (0.0, 0.0, 0.0))
        wanted = np.where(asked > 0, asked, spacing)
        if self.geometry.shear <= SHEAR_TOLERANCE and np.allclose(wanted, spacing, rtol=1e-3):
            return None
        left, _, right = np.linalg.svd(matrix / spacing)  # left @ right: the nearest orthogonal axes
        to_ras = np.linalg.solve(matrix, (left @ right) * wanted)
        # The orthogonal box must hold every corner of the file's grid, which leans over when it is sheared.
        corners = np.array(list(product((-0.5, 0.5), repeat=3))) * self._ras_shape
        extent = np.ptp(np.linalg.solve(to_ras, corners.T), axis=1)
        shape = tuple(int(n) for n in np.maximum(1, np.ceil(extent - ROUNDING)))
        full = np.eye(4)
        full[:3, :3] = to_ras
        full[:3, 3] = (np.array(self._ras_shape) - 1) / 2 - to_ras @ ((np.array(shape) - 1) / 2)
        return full, shape

    @cached_property
    def slice_axis(self) -> int:
        """The axis, in RAS order, that a 2-D network walks along: a lone slice's, the thickest, the last."""
        single = [axis for axis, n in enumerate(self._ras_shape) if n == 1]
        if len(single) == 1:
            return single[0]
        spacing = np.linalg.norm(self._ras_affine[:3, :3], axis=0)
        coarsest = int(np.argmax(spacing))
        return coarsest if spacing[coarsest] > THICK_SLICE * spacing.min() else 2

    @property
    def resamples(self) -> bool:
        """Whether the network sees another grid than the file's (flips and transpositions aside)."""
        return self._resampling is not None

    def to_network(self, array: np.ndarray, order: int) -> np.ndarray:
        """(channels, *file grid) to (channels, *network grid), in the same type.

        Args:
            array: of the file.
            order: of the spline where the grid is resampled: 0 for labels, 1 or 3 for intensities.
        """
        if self.geometry.dims == 2:
            return array
        array = np.stack([nib.orientations.apply_orientation(c, self._orientation) for c in array])
        if self._resampling is not None:
            matrix, shape = self._resampling
            array = np.stack([_resample(c, matrix, shape, order) for c in array])
        return np.ascontiguousarray(np.moveaxis(array, 1 + self.slice_axis, 1) if self.slice_first else array)

    def to_file(self, array: np.ndarray, order: int) -> np.ndarray:
        """(channels, *network grid) back to (channels, *file grid), in the same type."""
        if self.geometry.dims == 2:
            return array
        if self.slice_first:
            array = np.moveaxis(array, 1, 1 + self.slice_axis)
        if self._resampling is not None:
            inverse = np.linalg.inv(self._resampling[0])
            array = np.stack([_resample(c, inverse, self._ras_shape, order) for c in array])
        ras = nib.orientations.axcodes2ornt("RAS")
        back = nib.orientations.ornt_transform(ras, self._orientation)
        return np.ascontiguousarray(np.stack([nib.orientations.apply_orientation(c, back) for c in array]))


def _resample(array: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    """Interpolate in float32 and return the array's own type, so that codes stay codes."""
    kind = array.dtype
    working = kind if order == 0 and kind != np.float16 else np.dtype(np.float32)
    values = ndimage.affine_transform(
        array.astype(working, copy=False),
        matrix,
        output_shape=shape,
        order=order,
        mode="nearest",
        output=working,
    )
    if kind.kind in "iu" and order > 0:
        limits = np.iinfo(kind)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return values.astype(kind, copy=False)
