"""A file's image made ready for a network: channels, normalisation, grid; and its label as class numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..imaging import Image, LabelMap, same_grid
from ..imaging.geometry import corner_distance
from ..segmenters.spec import GREY_WEIGHTS, Preprocessing, SegmenterSpec
from .grid import ModelGrid

LUMINANCE = np.array(GREY_WEIGHTS, dtype=np.float32)
"""The same as an array, for images (channels, *grid)."""


@dataclass(frozen=True)
class Prepared:
    """Network input (channels, *network grid), float32, and the way back to the file."""

    array: np.ndarray
    grid: ModelGrid
    name: str


def prepare_image(image: Image, spec: SegmenterSpec) -> Prepared:
    """Everything between the file and the network.

    Raises:
        InputError: a 2-D picture for a 3-D network, or a number of channels it does not take.
    """
    if image.geometry.dims < spec.spatial_dims:
        raise InputError(
            f"{image.name}: a 2-D picture of {image.geometry.shape}, expected a volume for this 3-D network; "
            "use a 2-D segmenter."
        )
    array = _match_channels(image, spec.channels)
    grid = ModelGrid(
        image.geometry,
        slice_first=spec.spatial_dims == 2 and image.geometry.dims == 3,
        spacing=spec.preprocessing.spacing,
    )
    full = np.iinfo(image.array.dtype).max if image.array.dtype.kind in "iu" else 1.0
    normalised = normalise(array, spec.preprocessing, together=image.geometry.dims == 2, full=float(full))
    return Prepared(grid.to_network(normalised, order=1), grid, image.name)


def prepare_label(label: LabelMap, image: Image, spec: SegmenterSpec, instances: bool = False) -> np.ndarray:
    """Class number per voxel, (*file grid), int16.

    Args:
        label: as read.
        image: the image it belongs to.
        spec: knows which value means which class.
        instances: every value above 0 is an object of the one foreground class.

    Raises:
        InputError: another grid than the image's (a corner half a voxel off), or values that no class has.
    """
    if label.array.shape != image.geometry.shape:
        raise InputError(
            f"{label.name}: the label's grid is {label.array.shape}, expected the image's "
            f"{image.geometry.shape}; resample the label to the image."
        )
    if not same_grid(image.geometry, label.geometry):
        distance = corner_distance(image.geometry.shape, image.geometry.affine, label.geometry.affine)
        raise InputError(
            f"{label.name}: the label lies up to {distance:.1f} mm away from the image, expected less than "
            "half a voxel; repair its header, or resample it to the image."
        )
    if instances:
        return (label.array > 0).astype(np.int16)
    values = np.array(spec.label_values)
    order = np.argsort(values)
    position = np.clip(np.searchsorted(values[order], label.array), 0, len(values) - 1)
    classes = order[position]
    wrong = values[classes] != label.array
    if wrong.any():
        found = np.unique(label.array[wrong])[:5].tolist()
        raise InputError(
            f"{label.name}: label values {found} are not in the data set's list {list(spec.label_values)}; "
            "correct the label, or pass --instances if every value is an object."
        )
    return classes.astype(np.int16)


def _match_channels(image: Image, channels: int) -> np.ndarray:
    array = image.array.astype(np.float32, copy=False)
    if len(array) == channels:
        return array
    if image.geometry.dims == 2 and len(array) == 3 and channels == 1:
        return np.tensordot(LUMINANCE, array, axes=1)[None]
    if image.geometry.dims == 2 and len(array) == 1 and channels == 3:
        return np.repeat(array, channels, axis=0)
    raise InputError(f"{image.name}: {len(array)} channels, expected {channels}; check this case's files.")


def normalise(array: np.ndarray, how: Preprocessing, together: bool, full: float = 1.0) -> np.ndarray:
    """Apply the normalisation to (channels, *grid).

    Args:
        array: intensities, float32.
        how: see `Preprocessing`.
        together: pool the channels (a picture's colours) instead of treating each alone.
        full: the largest value of the file's integer type, which `unit` divides by; 1 for floats.
    """
    if how.normalisation == "none":
        return array.astype(np.float32)
    if how.normalisation == "unit":
        return (array / full).astype(np.float32)
    if how.normalisation == "fixed":
        low = -np.inf if how.low is None else how.low
        high = np.inf if how.high is None else how.high
        return ((np.clip(array, low, high) - how.mean) / how.std).astype(np.float32)
    axes = None if together else tuple(range(1, array.ndim))
    if how.percentiles is not None:
        low, high = np.percentile(array, how.percentiles, axis=axes, keepdims=True)
        array = np.clip(array, low.astype(np.float32), high.astype(np.float32))
    mean = array.mean(axis=axes, keepdims=True, dtype=np.float64)
    centred = array - mean.astype(np.float32)
    variance = np.square(centred).mean(axis=axes, keepdims=True, dtype=np.float64)
    centred /= np.maximum(np.sqrt(variance), 1e-6).astype(np.float32)
    return centred
