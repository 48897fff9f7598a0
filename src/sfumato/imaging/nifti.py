"""NIfTI in and out. What is written has bit for bit the geometry of what was read, and none of its text."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image

from ..errors import GeometryError, InputError
from .geometry import Geometry, check_forms_agree, check_geometry
from .image import check_finite, decoding

TEXT_FIELDS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")
"""Header fields that people and scanners write names into."""
INTENT_FIELDS = ("intent_code", "intent_p1", "intent_p2", "intent_p3")
NUMBER_FIELDS = (*INTENT_FIELDS, "cal_min", "cal_max", "session_error", "extents")
"""Header fields that speak about the voxels that were read, not about those that are written."""


def read_nifti(path: Path, resample: bool = False) -> tuple[np.ndarray, Geometry]:
    """Read a 2-D to 5-D NIfTI-1 or NIfTI-2 file.

    Args:
        path: `.nii` or `.nii.gz`.
        resample: accept a sheared grid or contradictory qform and sform (the pipeline then resamples).

    Returns:
        The scaled array (channels, i, j, k), float32 or the file's own integer type, and its geometry.

    Raises:
        InputError: not a NIfTI file, truncated, empty, or of a type that has no intensities.
        GeometryError: a header that cannot be trusted.
    """
    name = path.name
    with decoding(path, "NIfTI file"):
        # No memory map: another process may replace the file while we still hold the array.
        image = nib.load(path, mmap=False)
        if not isinstance(image, Nifti1Image):
            raise InputError(f"{name}: a {type(image).__name__}, expected a NIfTI file; convert it.")
        shape = image.shape
        if np.dtype(image.get_data_dtype()).kind not in "iuf":
            raise InputError(f"{name}: voxels are of type {image.get_data_dtype()}, expected numbers.")
        if len(shape) < 2 or 0 in shape:
            raise InputError(f"{name}: a grid of {shape}, expected voxels along two or three axes.")
        affine = np.asarray(image.affine, dtype=float)
        geometry = Geometry((*shape[:3], *[1] * (3 - len(shape))), affine, _without_text(image.header))
        check_geometry(geometry, name, resample)
        check_forms_agree(image.header, name, resample)
        array = np.asanyarray(image.dataobj)
    return _channels_first(_at_most_float32(array), name), geometry


def _at_most_float32(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, is counted and refused
        return array.astype(np.float32, copy=False)


def _channels_first(array: np.ndarray, name: str) -> np.ndarray:
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0]
    if array.ndim == 4:
        return np.moveaxis(array, 3, 0)
    if array.ndim == 3:
        return array[None]
    if array.ndim == 2:
        return array[None, :, :, None]
    raise InputError(f"{name}: {array.ndim} axes, expected 3 (a volume) or 4 (a volume with channels last).")


def _without_text(header: Nifti1Header) -> Nifti1Header:
    clean = header.copy()
    clean.extensions.clear()
    for field in TEXT_FIELDS:
        if field in clean:
            clean[field] = b""
    for field in NUMBER_FIELDS:
        if field in clean:
            clean[field] = 0
    return clean


def write_nifti(
    path: Path, array: np.ndarray, geometry: Geometry, value_range: tuple[float, float] | None = None
) -> None:
    """Write an array on a geometry; equal content gives equal bytes.

    Args:
        path: where to; `.nii.gz` is compressed at level 1.
        array: (i, j, k), or (channels, i, j, k) which is stored channels last. Integers are stored as they
            are (64-bit ones as int32), floats as float32 unless `value_range` is given.
        geometry: of the file that was read.
        value_range: store as uint8 with slope and offset over this range: error at most range / 510. An
            array that is uint8 already holds the codes 0 to 255 of that range.

    Raises:
        GeometryError: the array lies on another grid.
        InputError: values that the stored type cannot hold.
    """
    grid = np.moveaxis(array, 0, -1) if array.ndim == geometry.dims + 1 else array
    if grid.shape[: geometry.dims] != geometry.shape:
        raise GeometryError(
            f"{path.name}: an array of shape {array.shape}, expected a grid of {geometry.shape}."
        )
    slope, offset = (1.0, 0.0) if value_range is None else _scale(*value_range)
    grid = _storable(grid, path.name) if value_range is None else _codes(grid, slope, offset, path.name)
    header = Nifti1Header() if geometry.header is None else geometry.header.copy()
    header.set_data_dtype(grid.dtype)
    header.set_data_shape(grid.shape)
    if geometry.header is None:
        header.set_xyzt_units("mm")
    # Without an affine nibabel leaves both forms of the header as they are, bit for bit.
    affine = geometry.affine if geometry.header is None else None
    image = (Nifti2Image if isinstance(header, Nifti2Header) else Nifti1Image)(grid, affine, header)
    image.header.set_slope_inter(slope, offset)
    data = image.to_bytes()
    # A gzip stream without time stamp or name, so that equal content gives equal bytes.
    path.write_bytes(gzip.compress(data, compresslevel=1, mtime=0) if path.name.endswith(".gz") else data)


def _scale(low: float, high: float) -> tuple[float, float]:
    slope = np.float32((high - low) / 255.0)
    if float(slope) * 255.0 > high - low:
        slope = np.nextafter(slope, np.float32(0))  # a probability must not come back above 1
    return (float(slope) if slope >= np.finfo(np.float32).tiny else 1.0), float(np.float32(low))


def _codes(grid: np.ndarray, slope: float, offset: float, name: str) -> np.ndarray:
    if grid.dtype == np.uint8:
        return grid
    check_finite(grid, name)
    codes = np.empty(grid.shape, np.uint8)
    for source, target in zip(grid, codes, strict=True):  # plane by plane: no float copy of a large map
        target[...] = np.clip(np.rint((source.astype(np.float32) - offset) / slope), 0, 255)
    return codes


def _storable(grid: np.ndarray, name: str) -> np.ndarray:
    if np.issubdtype(grid.dtype, np.floating):
        return grid.astype(np.float32, copy=False)
    if grid.dtype == np.bool_:
        return grid.astype(np.uint8)
    if grid.dtype.itemsize < 8:
        return grid
    limits = np.iinfo(np.int32)
    if grid.size and not (limits.min <= grid.min() and grid.max() <= limits.max):
        raise InputError(f"{name}: values from {grid.min()} to {grid.max()}, expected 32-bit whole numbers.")
    return grid.astype(np.int32)
