"""The small picture of a case in an index: the worst plane, with the doubt over it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np

from ..imaging import Image
from ..pipeline.prepare import LUMINANCE
from ..pipeline.result import CaseResult
from .shading import Shading, choose_map, shade
from .views import View, views_of
from .worst import worst_centre

WIDTH, HEIGHT = 140, 96
"""Pixels the picture fits into as shown; it is stored with twice that."""
PALETTE = 128
"""Colours of the picture."""
WINDOW = (0.5, 99.5)
"""Percentiles of the shown planes that become black and white."""


def grey_window(image: Image, views: tuple[View, ...]) -> tuple[float, float]:
    """Intensities that become black and white: percentiles of the planes that are shown."""
    array = colours_or_first(image)
    seen = np.concatenate([view.take(array).ravel() for view in views]).astype(np.float32)
    low, high = (float(v) for v in np.percentile(seen, WINDOW))
    if high <= low:
        low, high = float(seen.min()), float(seen.max())
    return low, high if high > low else low + 1.0


def colours_or_first(image: Image) -> np.ndarray:
    """All three channels of a colour picture, else the first channel alone; (channels, *grid)."""
    return image.array if image.array.shape[0] == 3 and image.geometry.dims == 2 else image.array[:1]


def plane_colours(image: Image, view: View, window: tuple[float, float]) -> np.ndarray:
    """The image in one plane, in [0, 1]: (rows, columns), or (rows, columns, 3) for colour pictures."""
    plane = view.take(colours_or_first(image)).astype(np.float32)
    scaled = np.clip((plane - window[0]) / (window[1] - window[0]), 0.0, 1.0)
    return scaled[0] if len(scaled) == 1 else np.moveaxis(scaled, 0, 2)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Grey values of a picture (rows, columns, 3); weights of ITU-R BT.601."""
    return colours if colours.ndim == 2 else (colours @ LUMINANCE).astype(np.float32)


def thumbnail(result: CaseResult) -> bytes:
    """A small PNG of the worst plane with the map of doubt over it, at most 280 x 192 pixels."""
    kind, values = choose_map(result)
    geometry = result.image.geometry
    centre, _ = worst_centre(values, geometry.spacing, result.segmentation)
    view = finest(views_of(geometry, centre, result.segmentation), geometry.spacing)
    return _compose(result.image, view, shade(kind, values, (view,)))


def finest(views: tuple[View, ...], spacing: tuple[float, ...]) -> View:
    """The plane with the finest pixels: the one across the thickest slices; ties go to the axial one."""
    return max(views, key=lambda view: spacing[view.normal[0]] if view.normal else 0.0)


def thumbnail_size(view: View, rows: int, columns: int) -> tuple[int, int]:
    """(width, height) in pixels of a plane as it is stored, with square millimetres."""
    height, width = (n * s for n, s in zip((rows, columns), view.spacing, strict=True))
    scale = min(2 * HEIGHT / height, 2 * WIDTH / width)
    return max(8, round(width * scale)), max(8, round(height * scale))


def small_png(colours: np.ndarray, lines: Mapping[tuple[int, int, int], np.ndarray] | None = None) -> bytes:
    """A PNG of at most `PALETTE` colours.

    Args:
        colours: (rows, columns, 3) in [0, 1].
        lines: 8-bit colour -> mask (rows, columns) drawn over it; these colours are kept as they are.
    """
    from PIL import Image as PillowImage

    lines = lines or {}
    numbers, palette = _few_colours(colours, PALETTE - len(lines))
    for colour, mask in lines.items():
        numbers[mask] = len(palette) // 3
        palette += colour
    picture = PillowImage.fromarray(numbers)
    picture.putpalette(palette)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _few_colours(colours: np.ndarray, count: int) -> tuple[np.ndarray, list[int]]:
    """Number of each pixel's colour, (rows, columns) uint8, and the colours one after the other, 3 * count."""
    from PIL import Image as PillowImage

    if (colours == colours[..., :1]).all():  # greys need no search for the best colours, which takes longest
        levels = np.rint(np.linspace(0, 255, count)).astype(int)
        return np.rint((count - 1) * colours[..., 0]).astype(np.uint8), np.repeat(levels, 3).tolist()
    picture = PillowImage.fromarray(np.rint(255 * colours).astype(np.uint8))
    found = picture.quantize(count, dither=PillowImage.Dither.NONE)
    palette = (found.getpalette() or [])[: 3 * count]
    return np.array(found), palette + [0] * (3 * count - len(palette))


def _compose(image: Image, view: View, shading: Shading) -> bytes:
    from PIL import Image as PillowImage

    from .figures import heat

    grey = luminance(plane_colours(image, view, grey_window(image, (view,))))
    values = np.clip((shading.take(view) - shading.low) / (shading.high - shading.low), 0.0, 1.0)
    size, smooth = thumbnail_size(view, *grey.shape), PillowImage.Resampling.BILINEAR
    base, over = (
        np.asarray(PillowImage.fromarray(a.astype(np.float32)).resize(size, smooth)) for a in (grey, values)
    )
    colours = heat()(over)
    return small_png(0.75 * base[..., None] * (1 - colours[..., 3:]) + colours[..., :3] * colours[..., 3:])
