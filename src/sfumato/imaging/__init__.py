"""The only code that knows image files: arrays with their geometry in, arrays with the same geometry out.

Free of torch. World coordinates are RAS+ millimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError
from .geometry import Geometry, same_grid
from .image import PICTURES, READABLE, VOLUMES, Image, LabelMap, check_finite, stem_of, suffix_of
from .nifti import read_nifti, write_nifti
from .picture import (
    picture_suffix,
    read_picture,
    write_image_picture,
    write_label_picture,
    write_map_picture,
)

__all__ = [
    "PICTURES",
    "READABLE",
    "VOLUMES",
    "Geometry",
    "Image",
    "LabelMap",
    "picture_suffix",
    "read_image",
    "read_label",
    "same_grid",
    "stem_of",
    "suffix_of",
    "write_image_picture",
    "write_label_picture",
    "write_map_picture",
    "write_nifti",
]


def _read(path: Path, resample: bool, indices: bool = False) -> tuple[np.ndarray, Geometry]:
    suffix = suffix_of(path)
    if suffix in VOLUMES:
        return read_nifti(path, resample)
    if suffix in PICTURES:
        return read_picture(path, indices)
    raise InputError(f"{path.name}: not an image we read; expected a name ending in {', '.join(READABLE)}.")


def read_image(paths: Path | Sequence[Path], name: str | None = None, resample: bool = False) -> Image:
    """Read one image from a file, or from several files that hold one channel each.

    Args:
        paths: a file, or one per channel, all on one grid.
        name: how messages call the case; the file's stem by default.
        resample: accept a sheared or contradictory NIfTI header.

    Raises:
        InputError: unreadable file, NaN or infinite voxels, or channels on different grids.
        GeometryError: a header that cannot be trusted.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(p) for p in paths]
    name = name or stem_of(files[0])
    parts = [_read(file, resample) for file in files]
    geometry = parts[0][1]
    for (_, other), file in zip(parts[1:], files[1:], strict=True):
        if not same_grid(geometry, other):
            raise InputError(
                f"{name}: {file.name} lies on another grid ({other.shape}) than {files[0].name} "
                f"({geometry.shape}), expected one grid for all channels; resample them first."
            )
    array = parts[0][0] if len(parts) == 1 else np.concatenate([p[0] for p in parts])
    check_finite(array, name)
    return Image(array, geometry, name)


def read_label(path: Path, name: str | None = None, resample: bool = False) -> LabelMap:
    """Read one label map; floats are accepted when they are whole numbers, colours when they are greys.

    Raises:
        InputError: unreadable file, more than one channel, or values that are not whole numbers.
    """
    path = Path(path)
    name = name or stem_of(path)
    array, geometry = _read(path, resample, indices=True)
    if array.shape[0] != 1:
        if not (array == array[:1]).all():
            raise InputError(
                f"{name}: the label file {path.name} has {array.shape[0]} different channels, expected "
                "one class number per voxel; save it as a single channel."
            )
        array = array[:1]
    labels = array[0]
    check_finite(labels, name)
    if np.issubdtype(labels.dtype, np.floating):
        rounded = np.rint(labels)
        if np.abs(labels - rounded).max(initial=0) > 1e-3:
            raise InputError(
                f"{name}: the label file {path.name} has values that are not whole numbers, expected "
                "one class number per voxel; is it an image or a probability map?"
            )
        labels = rounded
    if labels.size and max(-float(labels.min()), float(labels.max())) >= 2**31:
        raise InputError(f"{name}: label values up to {labels.max():.3g}, expected 32-bit whole numbers.")
    return LabelMap(labels.astype(np.int32), geometry, name)
