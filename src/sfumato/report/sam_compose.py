"""Panels put together to one picture."""

from __future__ import annotations

import io
import textwrap
from typing import Any

from .figures import DPI, png_bytes


def text_strip(text: str, width: int, size: int = 12) -> Any:
    """A line of text on white, broken where it is too long."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = textwrap.wrap(text, max(40, width // 9))
    height = 22 * len(lines) + 14
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(10 / width, 0.5, "\n".join(lines), fontsize=size, va="center", parse_math=False)
    return opened(png_bytes(figure))


def opened(png: bytes) -> Any:
    """A PNG as a picture of Pillow's."""
    from PIL import Image as PillowImage

    return PillowImage.open(io.BytesIO(png)).convert("RGB")


def beside(pictures: list[Any]) -> Any:
    """Pictures in one row."""
    from PIL import Image as PillowImage

    row = PillowImage.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width
    return row


def stacked_png(rows: list[Any]) -> bytes:
    """Rows below each other, as PNG bytes."""
    from PIL import Image as PillowImage

    whole = PillowImage.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    return buffer.getvalue()
