"""Masks of one object against the rest, however their files write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..imaging import LabelMap, read_image

FULL = (1, 255, 65535)
"""What the largest value of a mask stands for: the least of these that is not below it."""
LARGEST_TINT = 0.25
"""How far the colours of a pixel may lie apart, as a share of the full value; JPEG moves them a little."""


def read_binary_mask(path: Path, name: str | None = None) -> LabelMap:
    """Read a mask as 0 and 1, whether its file holds 0 and 1, 0 and 255, greys about these, or grey in three channels.

    A pixel belongs to the object where it is above half of the full value: 1, 255 or 65535.

    Args:
        path: of a picture or volume.
        name: how messages call the case; the file's stem by default.

    Returns:
        int32, on the file's grid and in its axis order.

    Raises:
        InputError: unreadable; colours; values below 0, or none near the full value, as where a file numbers classes.
    """
    image = read_image(Path(path), name)
    array = image.array.astype(np.float64)
    top = array.max(initial=0.0)
    full = next((value for value in FULL if top <= value), None)
    if full is None or array.min(initial=0.0) < 0 or 0 < top <= full / 2:
        raise InputError(
            f"{image.name}: mask values from {array.min():.4g} to {top:.4g}, expected 0 and 1, or 0 and 255; read "
            "numbered classes as labels instead."
        )
    tint = float((array.max(axis=0) - array.min(axis=0)).max(initial=0.0)) / full
    if tint > LARGEST_TINT:
        raise InputError(
            f"{image.name}: a mask in colours, whose channels differ by up to {tint:.0%}, expected grey; save the one "
            "colour that means the object as white."
        )
    return LabelMap((array.mean(axis=0) > full / 2).astype(np.int32), image.geometry, image.name)
