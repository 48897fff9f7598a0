"""Panels of what a promptable network answered: prompts, outlines, the advised click, the doubt.

Planes are shown in the file's axis order, rows down and columns to the right, so that coordinates can be read off and
typed. Objects are numbered, as no text from files is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import binary_erosion

from ..datasets.prompt_file import ObjectPrompt
from ..pipeline.prompted_case import PromptedCase
from ..pipeline.prompted_plane import Click, ObjectAnswer
from ..pipeline.result import unit
from ..pipeline.slices import Slices
from .figures import COLOURS, Panel, heat
from .sam_compose import beside, opened, stacked_png, text_strip
from .sam_wording import advice
from .thumbnail import small_png
from .views import View

MARGIN = 0.5
"""Shown around an object on each side, as a share of its longer side."""
THUMBNAIL = 280
"""Pixels of a thumbnail's longer side."""
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
Panels = Mapping[tuple[int, int], tuple[bytes, bytes, bytes]]
"""(number of the object, slice) -> its three panels."""


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


def draw_panels(case: PromptedCase) -> Panels:
    """The panels of every object on every slice that was pointed at."""
    return {
        (number, index): object_panels(case, number, answer)
        for number, found in enumerate(case.objects, start=1)
        for index, answer in found.answers.items()
    }


def case_picture(case: PromptedCase, panels: Panels) -> bytes:
    """One PNG of all objects: per object the sentence above its three panels, those of the worst slice pointed at."""
    rows = []
    for number, found in enumerate(case.objects, start=1):
        answer = case.worst(found)
        drawn = [opened(png) for png in panels[number, answer.prompt.plane or 0]]
        said = f"{number}   {advice(answer, case.calibrated, case.larger)}"
        rows += [text_strip(said, sum(p.width for p in drawn)), beside(drawn)]
    rows.append(beside([text_strip(text, rows[-1].width // 3, 10) for text in HEADS]))
    return stacked_png(rows)


def thumbnail(slices: Slices, index: int, answer: ObjectAnswer) -> bytes:
    """A small PNG of one object's outline on a slice, for lists."""
    from PIL import Image as PillowImage

    colours = _colours(slices, index)
    region = region_of(answer, colours.shape[:2])
    part, mask = colours[region], answer.kept.mask[region]
    height, width = (n * s for n, s in zip(part.shape[:2], slices.spacing[1:], strict=True))
    scale = THUMBNAIL / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    picture = PillowImage.fromarray(np.rint(255 * part).astype(np.uint8)).convert("RGB")
    shown = np.asarray(picture.resize(size, PillowImage.Resampling.BILINEAR)) / 255
    outline = np.asarray(PillowImage.fromarray(mask).resize(size, PillowImage.Resampling.NEAREST))
    edge = np.logical_and(outline, np.logical_not(binary_erosion(outline, iterations=2, border_value=1)))
    return small_png(shown, {tuple(int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)): edge})  # type: ignore[dict-item]


def _colours(slices: Slices, index: int) -> np.ndarray:
    """(height, width), or (height, width, 3) in colour."""
    plane = slices.array[index]
    return plane[0] if len(plane) == 1 else np.moveaxis(plane, 0, 2)


def _halo(width: float) -> list[Any]:
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width + 1.8, foreground="black", alpha=0.8), Normal()]
