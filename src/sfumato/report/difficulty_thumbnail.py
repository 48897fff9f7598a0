"""The small picture of a case in an index of difficulty: one plane, with the outlines of the label."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

from ..imaging import Image
from .figures import COLOURS
from .thumbnail import finest, grey_window, plane_colours, small_png, thumbnail_size
from .views import views_of

MANY = 8
"""From this many label values on, as where labels number objects, all outlines have one colour."""


def case_thumbnail(image: Image, label: np.ndarray | None = None) -> bytes:
    """A small PNG: the plane with most of the label, or the middle one, oriented as readers expect it.

    Args:
        image: as read.
        label: (*grid) values, 0 is background; None where there is none.

    Example:
        >>> from sfumato.imaging import Geometry
        >>> image = Image(np.arange(64.0).reshape(1, 8, 8), Geometry((8, 8)))
        >>> case_thumbnail(image)[:4]
        b'\\x89PNG'
    """
    outlined = np.zeros(image.geometry.shape, np.uint8) if label is None else label
    views = views_of(image.geometry, _centre(outlined), outlined)
    view = finest(views, image.geometry.spacing)
    plane = plane_colours(image, view, grey_window(image, (view,)))
    size = thumbnail_size(view, *plane.shape[:2])
    channels = [plane] * 3 if plane.ndim == 2 else [plane[..., i] for i in range(3)]
    colours = np.stack([_resized(channel, size, smooth=True) for channel in channels], axis=2)
    values = [int(v) for v in np.unique(outlined) if v > 0]
    shown = np.rint(_resized(view.take(outlined), size, smooth=False))
    lines: dict[tuple[int, int, int], np.ndarray] = {}
    for number, value in enumerate(values):
        mask = shown == value
        edge = np.logical_and(mask, np.logical_not(binary_erosion(mask, border_value=1)))
        colours[np.logical_and(binary_dilation(edge), ~edge)] *= 0.45
        colour = _colour(number if len(values) < MANY else 0)
        lines[colour] = np.logical_or(lines.get(colour, False), edge)
    return small_png(colours, lines)


def _centre(label: np.ndarray) -> tuple[int, ...]:
    """Per axis the plane with most foreground; the middle where there is none."""
    counts = [
        (label > 0).sum(axis=tuple(a for a in range(label.ndim) if a != axis)) for axis in range(label.ndim)
    ]
    return tuple(int(c.argmax()) if c.any() else len(c) // 2 for c in counts)


def _resized(plane: np.ndarray, size: tuple[int, int], smooth: bool) -> np.ndarray:
    from PIL import Image as PillowImage

    how = PillowImage.Resampling.BILINEAR if smooth else PillowImage.Resampling.NEAREST
    return np.array(PillowImage.fromarray(plane.astype(np.float32)).resize(size, how))


def _colour(number: int) -> tuple[int, int, int]:
    text = COLOURS[number % len(COLOURS)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
