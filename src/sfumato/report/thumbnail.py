"""The small picture of a case in an index: the worst plane, with the doubt over it."""

from __future__ import annotations

import io

import numpy as np

from ..pipeline.result import CaseResult
from .shading import Shading, choose_map, shade
from .views import View, views_of
from .worst import worst_centre

WIDTH, HEIGHT = 140, 96
"""Pixels the picture fits into as shown; it is stored with twice that."""
WINDOW = (0.5, 99.5)
"""Percentiles of the shown planes that become black and white."""


def grey_window(result: CaseResult, views: tuple[View, ...]) -> tuple[float, float]:
    """Intensities that become black and white: percentiles of the planes that are shown."""
    array = colours_or_first(result)
    seen = np.concatenate([view.take(array).ravel() for view in views]).astype(np.float32)
    low, high = (float(v) for v in np.percentile(seen, WINDOW))
    if high <= low:
        low, high = float(seen.min()), float(seen.max())
    return low, high if high > low else low + 1.0


def colours_or_first(result: CaseResult) -> np.ndarray:
    """All three channels of a colour picture, else the first channel alone; (channels, *grid)."""
    array = result.image.array
    return array if array.shape[0] == 3 and result.image.geometry.dims == 2 else array[:1]


def plane_colours(result: CaseResult, view: View, window: tuple[float, float]) -> np.ndarray:
    """The image in one plane, in [0, 1]: (rows, columns), or (rows, columns, 3) for colour pictures."""
    plane = view.take(colours_or_first(result)).astype(np.float32)
    scaled = np.clip((plane - window[0]) / (window[1] - window[0]), 0.0, 1.0)
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, 2)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Grey values of a picture (rows, columns, 3); weights of ITU-R BT.601."""
    return (
        colours
        if colours.ndim == 2
        else (colours @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.float32)
    )


def thumbnail(result: CaseResult) -> bytes:
    """A small PNG of the worst plane with the map of doubt over it, at most 280 x 192 pixels."""
    kind, values = choose_map(result)
    geometry = result.image.geometry
    centre, _ = worst_centre(values, geometry.spacing, result.segmentation)
    views = views_of(geometry, centre, result.segmentation)
    view = max(views, key=lambda v: _fineness(v, geometry.spacing))
    return _compose(result, view, shade(kind, values, (view,)))


def _fineness(view: View, spacing: tuple[float, ...]) -> float:
    # The plane across the thickest slices is the one with the finest pixels; ties go to the axial one.
    return spacing[view.normal[0]] if view.normal else 0.0


def _compose(result: CaseResult, view: View, shading: Shading) -> bytes:
    from PIL import Image

    from .figures import heat

    grey = luminance(plane_colours(result, view, grey_window(result, (view,))))
    values = np.clip((shading.take(view) - shading.low) / (shading.high - shading.low), 0.0, 1.0)
    height, width = (n * s for n, s in zip(grey.shape, view.spacing, strict=True))
    scale = min(2 * HEIGHT / height, 2 * WIDTH / width)
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    base, over = (
        np.asarray(Image.fromarray(a.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        for a in (grey, values)
    )
    colours = heat()(over)
    mixed = 0.75 * base[..., None] * (1 - colours[..., 3:]) + colours[..., :3] * colours[..., 3:]
    picture = Image.fromarray(np.rint(255 * mixed).astype(np.uint8)).quantize(128, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
