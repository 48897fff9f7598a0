"""Panels of a case page as PNG bytes: equal input gives equal bytes.

Matplotlib's object-oriented interface with the Agg canvas; it is imported when something is drawn. No text
that comes from a file is drawn, so names never meet matplotlib's mathematics or a missing letter.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from .views import View

PANEL = 440
"""Pixels of a panel's longer side; pages show it smaller, so it stays sharp on fine screens and paper."""
LEAST_PANEL = 110
"""Pixels of a panel's shorter side at least; the rest is black."""
DPI = 100
COLOURS = ("#56b4e9", "#e69f00", "#00c48c", "#f0e442", "#f28cc6", "#ff6a2b", "#b9a5ff")
"""Contours, in the order of the classes: after Okabe and Ito's palette for colour blindness, brightened for
dark images."""
DASHES = ("solid", "dashed", "dotted")
"""Further classes repeat the colours with other dashes."""


def style_of(number: int) -> tuple[str, str]:
    """Colour and dashes of a foreground class; they repeat after 21 classes."""
    return COLOURS[(number - 1) % len(COLOURS)], DASHES[(number - 1) // len(COLOURS) % len(DASHES)]


def png_bytes(figure: Any, level: int = 6) -> bytes:
    """Render a figure without anything that differs between runs."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": level})
    return buffer.getvalue()


@lru_cache(maxsize=1)
def heat() -> Any:
    """Inferno with growing opacity: low values let the image through, high ones cover it."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    at = np.linspace(0.0, 1.0, 256)
    colours = colormaps["inferno"](0.25 + 0.75 * at)
    colours[:, 3] = 0.92 * np.clip(at / 0.45, 0.0, 1.0)
    return ListedColormap(colours, name="heat")


class Panel:
    """One plane being drawn; rows and columns are its axes, in units of voxels as shown."""

    def __init__(self, view: View, plane: np.ndarray):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.view = view
        self.shape = plane.shape[:2]
        height, width = (n * s for n, s in zip(self.shape, view.spacing, strict=True))
        scale = PANEL / max(height, width)
        self.size = tuple(max(LEAST_PANEL, round(side * scale)) for side in (width, height))
        self.figure = Figure(figsize=(self.size[0] / DPI, self.size[1] / DPI), dpi=DPI, facecolor="black")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set_axis_off()
        self.enlarged = scale * min(view.spacing) >= 1

    def show(self, plane: np.ndarray, colours: Any = None, low: float = 0.0, high: float = 1.0) -> None:
        """Draw values over what is there; (rows, columns), or (rows, columns, 3) in [0, 1]."""
        # Intensities may overshoot a little, a probability may not; made smaller, every voxel counts.
        enlarging = "bicubic" if colours == "gray" else "bilinear"
        self.axes.imshow(
            plane,
            cmap=colours,
            vmin=low,
            vmax=high,
            interpolation=enlarging if self.enlarged else "antialiased",
            aspect=self.view.spacing[0] / self.view.spacing[1],
        )

    def outline(self, labels: np.ndarray, width: float = 1.8) -> None:
        """Contours of every class above 0, in the class's colour and dashes, on a dark line."""
        from matplotlib.patheffects import Normal, Stroke

        halo = [Stroke(linewidth=width + 1.4, foreground="black", alpha=0.55), Normal()]
        padded = np.pad(labels, 1)
        for number, box in enumerate(find_objects(padded), start=1):
            if box is None:
                continue
            rows, columns = (slice(max(0, b.start - 1), b.stop + 1) for b in box)
            mask = padded[rows, columns] == number
            x, y = (
                np.arange(columns.start, columns.start + mask.shape[1]),
                np.arange(rows.start, rows.start + mask.shape[0]),
            )
            colour, dashes = style_of(number)
            drawn = self.axes.contour(
                x - 1, y - 1, mask, levels=[0.5], colors=colour, linestyles=dashes, linewidths=width
            )
            drawn.set(path_effects=halo)

    def mark(self) -> None:
        """Four short lines around the point of interest, the letters at the edges and a scale bar."""
        rows, columns = self.shape
        y, x = self.view.centre
        unit = max(rows * self.view.spacing[0], columns * self.view.spacing[1]) / 100
        along_x, along_y = unit / self.view.spacing[1], unit / self.view.spacing[0]
        for sign in (-1, 1):
            self._line([x + sign * 3 * along_x, x + sign * 7 * along_x], [y, y], 1.3)
            self._line([x, x], [y + sign * 3 * along_y, y + sign * 7 * along_y], 1.3)
        self.axes.set_xlim(-0.5, columns - 0.5)
        self.axes.set_ylim(rows - 0.5, -0.5)
        inset_x, inset_y = 10 / self.size[0], 10 / self.size[1]
        edges = ((inset_x, 0.5, "left", "center"), (1 - inset_x, 0.5, "right", "center"))
        edges += ((0.5, 1 - inset_y, "center", "top"), (0.5, inset_y, "center", "bottom"))
        for letter, (at_x, at_y, horizontal, vertical) in zip(self.view.letters or (), edges, strict=False):
            self._text(at_x, at_y, letter, 15, ha=horizontal, va=vertical)
        self._scale_bar(columns * self.view.spacing[1], "mm" if self.view.letters else "px")

    def _scale_bar(self, width: float, unit: str) -> None:
        length = round_length(width / 4)
        right, low = 1 - 14 / self.size[0], 12 / self.size[1]
        self._line([right - length / width, right], [low, low], 2.5, transform=self.axes.transAxes)
        self._text(right, low + 5 / self.size[1], f"{length:g} {unit}", 10, ha="right", va="bottom")

    def _line(self, x: Sequence[float], y: Sequence[float], width: float, **more: Any) -> None:
        from matplotlib.patheffects import Normal, Stroke

        halo = [Stroke(linewidth=width + 1.6, foreground="black", alpha=0.7), Normal()]
        self.axes.plot(x, y, color="white", linewidth=width, solid_capstyle="butt", path_effects=halo, **more)

    def name(self, row: float, column: float, text: str) -> None:
        """Write a few letters of our own at a place, in voxels as shown."""
        rows, columns = self.shape
        self._text((column + 0.5) / columns, 1 - (row + 0.5) / rows, text, 15, ha="center", va="center")

    def _text(self, x: float, y: float, text: str, size: float, **more: Any) -> None:
        from matplotlib.patheffects import Normal, Stroke

        halo = [Stroke(linewidth=3, foreground="black", alpha=0.8), Normal()]
        where = self.axes.transAxes
        self.axes.text(
            x,
            y,
            text,
            color="white",
            fontsize=size,
            weight="bold",
            transform=where,
            path_effects=halo,
            **more,
        )

    def png(self) -> bytes:
        """The finished panel."""
        return png_bytes(self.figure)


def round_length(length: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is not longer.

    Example:
        >>> round_length(47.0), round_length(0.3)
        (20.0, 0.2)
    """
    power = 10.0 ** np.floor(np.log10(length))
    return float(max(m for m in (1, 2, 5) if m * power <= length * (1 + 1e-9)) * power)


def image_panel(view: View, grey: np.ndarray, labels: np.ndarray) -> bytes:
    """The image, (rows, columns) or (rows, columns, 3) in [0, 1], with the contours of the classes."""
    panel = Panel(view, grey)
    panel.show(grey, "gray")
    panel.outline(labels)
    panel.mark()
    return panel.png()


def probability_panel(view: View, probability: np.ndarray) -> bytes:
    """A probability (rows, columns) in [0, 1]."""
    panel = Panel(view, probability)
    panel.show(probability, "viridis")
    panel.mark()
    return panel.png()


def doubt_panel(view: View, grey: np.ndarray, values: np.ndarray, low: float, high: float) -> bytes:
    """A map of doubt (rows, columns) over the darkened grey image (rows, columns)."""
    panel = Panel(view, values)
    panel.show(0.75 * grey, "gray")
    panel.show(values, heat(), low, high)
    panel.mark()
    return panel.png()


def colour_bar(colours: Any, low: float, high: float, more: bool = False) -> bytes:
    """A horizontal colour bar with its numbers; `more` adds the point for values above the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(PANEL / DPI, 0.46), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.03, 0.55, 0.94, 0.4))
    axes.set_facecolor("#5f5f5f")
    made = figure.colorbar(
        ScalarMappable(Normalize(low, high), colours),
        cax=axes,
        orientation="horizontal",
        extend="max" if more else "neither",
        ticks=MaxNLocator(6),
        format=lambda value, _: f"{value:.3g}",
    )
    made.ax.tick_params(labelsize=10, length=2, pad=2)
    return png_bytes(figure)
