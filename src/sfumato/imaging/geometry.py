"""Where an array lies in the patient: affine, spacing, shear; and the checks that refuse doubtful headers."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from ..errors import GeometryError

SHEAR_TOLERANCE = 1e-3
"""Largest cosine between two grid axes that still counts as a right angle."""
FLAT = 1e-6
"""Three axes whose unit vectors span less volume than this lie in one plane."""


@dataclass(frozen=True)
class Geometry:
    """Grid shape and the map from voxel index to RAS+ millimetres.

    Args:
        shape: (i, j) for pictures, (i, j, k) for volumes, in the file's axis order.
        affine: 4 x 4; the identity for pictures.
        header: the NIfTI header it came from, kept so that what is written back has the very same geometry.

    Example:
        >>> Geometry((4, 5, 6), np.diag([1.0, 1.0, 2.5, 1.0])).spacing
        (1.0, 1.0, 2.5)
    """

    shape: tuple[int, ...]
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    header: Nifti1Header | None = field(default=None, repr=False, compare=False)

    @property
    def dims(self) -> int:
        """2 for pictures, 3 for volumes."""
        return len(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Millimetres between neighbouring voxels along each grid axis (1 for pictures)."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0)[: self.dims])

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres; for pictures, a thousandth of a pixel."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @property
    def shear(self) -> float:
        """Largest |cosine| between two grid axes: 0 when all are at right angles."""
        axes = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(np.abs(axes.T @ axes - np.eye(3)).max())


def corner_distance(shape: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> float:
    """Millimetres by which two affines disagree, at the worst of the grid's corners.

    Example:
        >>> corner_distance((11, 2, 2), np.eye(4), np.diag([1.5, 1.0, 1.0, 1.0]))
        5.0
    """
    sides = (*shape[:3], *[1] * (3 - len(shape)))
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in sides))], dtype=float)
    return float(np.linalg.norm(((first - second) @ corners.T)[:3], axis=0).max())


def same_grid(first: Geometry, second: Geometry) -> bool:
    """Whether two arrays cover the same voxels: equal shapes, and no corner further off than half a voxel."""
    if first.shape != second.shape:
        return False
    return corner_distance(first.shape, first.affine, second.affine) <= 0.5 * min(first.spacing)


def check_geometry(geometry: Geometry, name: str, resample: bool = False) -> None:
    """Refuse a singular affine always, a sheared one unless it may be resampled.

    Raises:
        GeometryError: names the case, the finding and the way out.
    """
    matrix = geometry.affine[:3, :3]
    lengths = np.linalg.norm(matrix, axis=0)
    # Relative to the voxel's size: a microscope's affine has a tiny determinant and is perfectly good.
    fine = np.isfinite(geometry.affine).all() and lengths.all()
    if not fine or abs(np.linalg.det(matrix / lengths)) < FLAT:
        raise GeometryError(
            f"{name}: the affine is singular or not finite, expected one that maps voxels to millimetres; "
            "repair the header."
        )
    if geometry.shear > SHEAR_TOLERANCE and not resample:
        raise GeometryError(
            f"{name}: the grid axes are sheared (cosine {geometry.shear:.3f} between two axes, expected "
            f"below {SHEAR_TOLERANCE}); pass --resample to work on an orthogonal grid."
        )


def check_forms_agree(header: Nifti1Header, name: str, resample: bool = False) -> None:
    """Refuse a NIfTI header whose qform and sform put the image in two different places.

    With `resample` the sform is used, as nibabel does.

    Raises:
        GeometryError: names the case, the distance and the way out.
    """
    if resample or not (int(header["qform_code"]) and int(header["sform_code"])):
        return
    try:
        qform, sform = header.get_qform(), header.get_sform()
    except (ValueError, HeaderDataError) as error:
        raise GeometryError(
            f"{name}: the qform is not a rotation ({error}); repair the header, or pass --resample to use "
            "the sform."
        ) from error
    distance = corner_distance(header.get_data_shape(), np.asarray(qform), np.asarray(sform))
    limit = 0.5 * float(min(header.get_zooms()[:3]))
    if not distance <= limit:
        raise GeometryError(
            f"{name}: qform and sform disagree by {distance:.2f} mm at a corner, expected less than half a "
            f"voxel ({limit:.2f} mm); repair the header, or pass --resample to use the sform."
        )
