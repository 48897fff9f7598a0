"""Panels of what a promptable network answered: prompts, outlines, the advised click, the doubt.

Planes are shown in the file's axis order, rows down and columns to the right, so that coordinates can be read off and
typed. Objects are numbered, as no text from files is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..datasets.prompt_file import ObjectPrompt
from ..pipeline.prompted_case import PromptedCase
from ..pipeline.prompted_plane import Click, ObjectAnswer
from ..pipeline.result import unit
from ..pipeline.slices import Slices
from .figures import COLOURS, DPI, Panel, heat, png_bytes
from .sam_wording import advice
from .views import View

MARGIN = 0.5
"""Shown around an object on each side, as a share of its longer side."""
LEAST_SIDE = 64
"""Pixels shown at least along each axis."""
GIVEN, ADVISED = "#00c48c", "#f0e442"
"""Colours of clicks that were given, and of the one that is advised."""
HEADS = (
    "Prompt, offered mask, advised click (ring)",
    "The network's three masks",
    "Entropy of the mixture of the masks, bits",
)
"""What the panels show."""


class PromptPanel(Panel):
    """A part of a plane on which prompts are drawn in the whole plane's coordinates."""

    def __init__(self, slices: Slices, colours: np.ndarray, region: tuple[slice, slice]):
        view = View("", region, False, None, slices.spacing[1:], (0.0, 0.0), None, (1.0, 1.0))
        super().__init__(view, colours[region])
        self.region = region
        self.unit = "px" if slices.axis is None else "mm"

    def finish(self) -> bytes:
        """Limits, a scale bar, and the picture."""
        rows, columns = self.shape
        self.axes.set_xlim(-0.5, columns - 0.5)
        self.axes.set_ylim(rows - 0.5, -0.5)
        self._scale_bar(columns * self.view.spacing[1], self.unit)
        return self.png()

    def prompt(self, prompt: ObjectPrompt) -> None:
        """The box dashed, clicks as dots with their signs."""
        if prompt.box is not None:
            top, left, bottom, right = prompt.box
            x, y = self._places([left, right, right, left, left], [top, top, bottom, bottom, top])
            self.axes.plot(x, y, color="white", linewidth=1.5, linestyle=(0, (4, 3)), path_effects=_halo(1.5))
        for row, column, sign in prompt.points:
            x, y = self._places([column], [row])
            self.axes.plot(
                x, y, "o", color=GIVEN if sign else "#ff6a2b", markersize=10, markeredgecolor="black"
            )
            self._sign(x[0], y[0], sign, 10, "black")

    def click(self, click: Click) -> None:
        """A ring with the sign of the advised click."""
        x, y = self._places([click.column], [click.row])
        ring = {
            "markersize": 22,
            "markerfacecolor": "none",
            "markeredgewidth": 2.5,
            "path_effects": _halo(2.5),
        }
        self.axes.plot(x, y, "o", markeredgecolor=ADVISED, **ring)
        self._sign(x[0], y[0], click.sign, 18, ADVISED)

    def numbers(self, numbers: Sequence[int], colours: Sequence[str] = ("white",)) -> None:
        """In the upper left corner."""
        for place, number in enumerate(numbers):
            x, y = (10 + 16 * place) / self.size[0], 1 - 10 / self.size[1]
            self._text(x, y, str(number), 15, ha="left", va="top")
            self.axes.texts[-1].set_color(colours[place % len(colours)])

    def _places(self, columns: list[float], rows: list[float]) -> tuple[np.ndarray, np.ndarray]:
        return np.array(columns) - self.region[1].start, np.array(rows) - self.region[0].start

    def _sign(self, x: float, y: float, sign: int, size: float, colour: str) -> None:
        effects = _halo(1.5) if colour != "black" else []
        self.axes.text(
            x,
            y,
            "+" if sign else "\u2212",
            color=colour,
            fontsize=size,
            weight="bold",
            ha="center",
            va="center_baseline",
            path_effects=effects,
        )


def object_panels(case: PromptedCase, number: int, answer: ObjectAnswer) -> tuple[bytes, bytes, bytes]:
    """Image with prompts, outline and advice; the three masks; the entropy. PNG each.

    Args:
        case: of the object.
        number: of the object, from 1.
        answer: on the plane to show.
    """
    colours = _colours(case.slices, answer.prompt.plane or 0)
    region = region_of(answer, colours.shape[:2])
    first, second, third = (PromptPanel(case.slices, colours, region) for _ in range(3))
    first.show(colours[region], "gray")
    first.outline(answer.kept.mask[region].astype(np.uint8))
    first.prompt(answer.prompt)
    if answer.click is not None and answer.click.gain > 0:
        first.click(answer.click)
    first.numbers([number])
    second.show(0.8 * colours[region], "gray")
    for j, mask in enumerate(answer.masks):
        second.outline(mask[region].astype(np.uint8) * (j + 1))
    second.numbers(range(1, len(answer.masks) + 1), COLOURS)
    third.show(0.75 * colours[region], "gray")
    third.show(unit(answer.kept.entropy)[region], heat(), 0.0, 1.0)
    return first.finish(), second.finish(), third.finish()


def mask_colour(hypothesis: int) -> str:
    """Of a hypothesis' outline in the second panel."""
    return COLOURS[hypothesis % len(COLOURS)]


def region_of(answer: ObjectAnswer, sides: tuple[int, int]) -> tuple[slice, slice]:
    """The part of a plane to show: all masks that are worth showing, prompts and the advised click, with a margin."""
    shown = np.logical_or.reduce([m for m, s in zip(answer.masks, answer.shown, strict=True) if s])
    places = [np.argwhere(shown), *([np.array([p[:2]]) for p in answer.prompt.points])]
    if answer.prompt.box is not None:
        places.append(np.array(answer.prompt.box).reshape(2, 2))
    if answer.click is not None and answer.click.gain > 0:
        places.append(np.array([[answer.click.row, answer.click.column]]))
    found = np.concatenate(places)
    low, high = found.min(axis=0), found.max(axis=0) + 1
    half = np.maximum((high - low) * (0.5 + MARGIN), LEAST_SIDE / 2).max()
    parts = []
    for middle, side in zip((low + high) / 2, sides, strict=True):
        start = int(np.clip(middle - half, 0, max(0, side - 2 * half)))
        parts.append(slice(start, int(min(side, start + 2 * half))))
    return parts[0], parts[1]


def case_picture(case: PromptedCase) -> bytes:
    """One PNG of all objects: per object the sentence above three panels."""
    rows = []
    for number, found in enumerate(case.objects, start=1):
        answer = case.worst(found)
        panels = [_opened(png) for png in object_panels(case, number, answer)]
        said = f"{number}   {advice(answer, case.calibrated, case.larger)}"
        rows += [_strip(said, sum(p.width for p in panels)), _beside(panels)]
    rows.append(_beside([_strip(text, rows[-1].width // 3, 10) for text in HEADS]))
    return _stacked(rows)


def thumbnail(slices: Slices, index: int, answer: ObjectAnswer) -> bytes:
    """A small PNG of one object's outline on a slice, for lists."""
    colours = _colours(slices, index)
    region = region_of(answer, colours.shape[:2])
    panel = PromptPanel(slices, colours, region)
    panel.show(colours[region], "gray")
    panel.outline(answer.kept.mask[region].astype(np.uint8), 2.4)
    panel.axes.set_xlim(-0.5, panel.shape[1] - 0.5)
    panel.axes.set_ylim(panel.shape[0] - 0.5, -0.5)
    picture = _opened(panel.png())
    picture.thumbnail((300, 300))
    return _bytes(picture.quantize(128))


def _colours(slices: Slices, index: int) -> np.ndarray:
    """(height, width), or (height, width, 3) in colour."""
    plane = slices.array[index]
    return plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, 2)


def _halo(width: float) -> list[Any]:
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width + 1.8, foreground="black", alpha=0.8), Normal()]


def _strip(text: str, width: int, size: int = 12) -> Any:
    """A line of text on white, broken where it is too long."""
    import textwrap

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = textwrap.wrap(text, max(40, width // 9))
    height = 22 * len(lines) + 14
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(10 / width, 0.5, "\n".join(lines), fontsize=size, va="center", parse_math=False)
    return _opened(png_bytes(figure))


def _opened(png: bytes) -> Any:
    from PIL import Image as PillowImage

    return PillowImage.open(io.BytesIO(png)).convert("RGB")


def _beside(pictures: list[Any]) -> Any:
    from PIL import Image as PillowImage

    row = PillowImage.new("RGB", (sum(p.width for p in pictures), max(p.height for p in pictures)))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width
    return row


def _stacked(rows: list[Any]) -> bytes:
    from PIL import Image as PillowImage

    whole = PillowImage.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    return _bytes(whole)


def _bytes(picture: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


__all__ = ["HEADS", "case_picture", "mask_colour", "object_panels", "region_of", "thumbnail"]
