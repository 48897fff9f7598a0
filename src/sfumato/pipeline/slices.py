"""An image as a stack of slices for a network that knows pictures, with intensities in [0, 1]. Labels play no part."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..imaging import Image

WINDOW_PERCENTILES = (0.5, 99.5)
"""Of the whole image; a few bright voxels must not darken all others."""


@dataclass(frozen=True)
class Slices:
    """A stack of slices.

    Args:
        array: (slices, channels, height, width), float32 in [0, 1]; height and width follow the file's axis order.
        axis: grid axis that became the slices; None for a picture.
        spacing: millimetres along (slices, height, width); 1 for pictures.
        name: how messages call the case.
    """

    array: np.ndarray
    axis: int | None
    spacing: tuple[float, float, float]
    name: str = "image"


def image_slices(image: Image, axis: int | None = None) -> Slices:
    """Cut an image into slices and window its intensities.

    Each channel is clipped to its 0.5 and 99.5 percentiles over the whole image and scaled to [0, 1]; a picture's
    colours share one window, so that they keep their hue. An image without contrast becomes zero.

    Args:
        image: as read.
        axis: grid axis of the slices. By default the one with the largest spacing, which is how the scanner took
            them; where several are equally large (within a thousandth), the last of the grid.

    Raises:
        InputError: an axis that the image does not have.

    Example:
        >>> from sfumato.imaging import Geometry
        >>> volume = Image(np.zeros((1, 8, 5, 6)), Geometry((8, 5, 6), np.diag([3.0, 1.0, 1.0, 1.0])))
        >>> stack = image_slices(volume)
        >>> stack.array.shape, stack.axis, stack.spacing
        ((8, 1, 5, 6), 0, (3.0, 1.0, 1.0))
    """
    array = windowed(image.array, together=image.geometry.dims == 2)
    if image.geometry.dims == 2:
        if axis is not None:
            raise InputError(f"{image.name}: a picture is one slice, expected no axis; got {axis}.")
        return Slices(array[None], None, (1.0, 1.0, 1.0), image.name)
    spacing = image.geometry.spacing
    if axis is None:
        axis = slice_axis(spacing)
    if axis not in (0, 1, 2):
        raise InputError(f"{image.name}: the slice axis is {axis}, expected 0, 1 or 2.")
    height, width = (spacing[i] for i in range(3) if i != axis)
    stack = np.ascontiguousarray(np.moveaxis(array, axis + 1, 0))
    return Slices(stack, axis, (spacing[axis], height, width), image.name)


def label_slices(label: np.ndarray, axis: int | None) -> np.ndarray:
    """A label map on the image's grid, cut as the image was: (slices, height, width).

    Args:
        label: (*grid).
        axis: `Slices.axis` of the image.

    Example:
        >>> label_slices(np.zeros((8, 5, 6)), 1).shape, label_slices(np.zeros((8, 5)), None).shape
        ((5, 8, 6), (1, 8, 5))
    """
    return label[None] if axis is None else np.ascontiguousarray(np.moveaxis(label, axis, 0))


def slice_axis(spacing: tuple[float, ...]) -> int:
    """The axis with the largest spacing; the last of those that are equal within a thousandth.

    Example:
        >>> slice_axis((1.25, 1.25, 10.0)), slice_axis((3.0, 1.0, 1.0)), slice_axis((1.0, 1.0, 1.0))
        (2, 0, 2)
    """
    largest = max(spacing)
    return max(i for i, s in enumerate(spacing) if s >= largest * (1 - 1e-3))


def windowed(array: np.ndarray, together: bool = False) -> np.ndarray:
    """Clip (channels, *grid) to percentiles and scale to [0, 1], float32.

    Args:
        array: finite intensities.
        together: one window for all channels instead of one for each.
    """
    axes = None if together else tuple(range(1, array.ndim))
    array = array.astype(np.float32, copy=False)
    low, high = np.percentile(array, WINDOW_PERCENTILES, axis=axes, keepdims=True).astype(np.float32)
    span = np.where(high > low, high - low, np.float32(1))
    return (np.clip(array, low, high) - low) / span
