"""Prompts that a person might give for an object whose mask is known, and the objects of a label map.

Everything random is drawn from the generator that is passed. The first click and the ones after it follow
UncertainSAM (arXiv 2505.05049, as its code draws them): the mask is eroded by a box of five pixels, unless nothing were
left, and the first click is the pixel nearest to the centroid. Boxes follow SAM's training (Kirillov et al., 2023):
tight, or with noise on each side in proportion to the box.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import ndimage

from ..errors import ConfigError, InputError
from ..types import SpatialPrompt
from .prompt_file import ObjectPrompt, spatial_rows

ObjectMode = Literal["instances", "classes", "components"]
OBJECT_MODES = ("instances", "classes", "components")
EROSION = 5
"""Side of the box by which a mask is eroded before clicks are drawn."""
LEAST_AREA = 10
"""Smaller objects are left out by default, as in UncertainSAM's evaluation on COCO."""
LOOSENESS = 0.15
"""Noise on each side of a hurried box, as a share of the box."""
MISPLACEMENT = 0.5
"""Noise of a misplaced box, as a share of the box."""
CONNECTED = np.ones((3, 3), dtype=bool)
"""Pixels that touch at a corner belong together."""


def objects_of(
    label: np.ndarray, mode: ObjectMode = "components", min_area: int = LEAST_AREA
) -> list[tuple[str, np.ndarray]]:
    """The objects of one plane of a label map, by name, in the order of their values.

    Args:
        label: (height, width), whole numbers; 0 is background, negative values are unknown.
        mode: `instances` and `classes` make one object of every value, however scattered, where the values number
            objects or name classes; `components` makes one of every connected part of every value.
        min_area: pixels; smaller objects are left out.

    Returns:
        Names, `VALUE` or `VALUE.PART`, and masks (height, width).

    Raises:
        ConfigError: an unknown mode, or an area below 1.
        InputError: a label that is no plane.

    Example:
        >>> label = np.zeros((12, 12), int)
        >>> label[:4, :4], label[6:10, 6:10] = 2, 2
        >>> [name for name, _ in objects_of(label)], [name for name, _ in objects_of(label, "classes")]
        (['2.1', '2.2'], ['2'])
    """
    if mode not in OBJECT_MODES:
        raise ConfigError(f"Objects {mode!r}, expected one of {', '.join(OBJECT_MODES)}.")
    if min_area < 1:
        raise ConfigError(f"min_area={min_area}, expected 1 pixel or more.")
    if label.ndim != 2:
        raise InputError(f"A label of {label.ndim} axes, expected one plane (height, width).")
    found = []
    for value in np.unique(label[label > 0]).tolist():
        mask = label == value
        if mode != "components":
            found.append((str(value), mask))
            continue
        parts, count = ndimage.label(mask, CONNECTED)  # type: ignore[misc]  # a pair, as no output is given
        found += [(f"{value}.{part}", parts == part) for part in range(1, count + 1)]
    return [(name, mask) for name, mask in found if mask.sum() >= min_area]


def interior_point(mask: np.ndarray) -> tuple[int, int]:
    """The pixel deepest inside of a mask (height, width): furthest from the outside and from the plane's edge.

    Example:
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[1:6, 2:7] = True
        >>> interior_point(mask)
        (3, 4)
    """
    _need_object(mask)
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(row), int(column)


def centre_point(mask: np.ndarray) -> tuple[int, int]:
    """The eroded mask's pixel nearest to its centroid, the paper's first click; the first of equals.

    Example:
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[1:6, 2:7] = True
        >>> centre_point(mask)
        (3, 4)
    """
    places = _clickable(mask)
    centre = ((places - places.mean(axis=0)) ** 2).sum(axis=1).argmin()
    return int(places[centre, 0]), int(places[centre, 1])


def sample_points(mask: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Clicks (count, 2), (row, column), drawn evenly from the eroded mask; with replacement where it is too small."""
    places = _clickable(mask)
    return places[generator.choice(len(places), count, replace=len(places) < count)]


def outside_point(mask: np.ndarray, generator: np.random.Generator) -> tuple[int, int] | None:
    """A pixel outside of the mask but near it: within the box around it, made twice as large.

    Returns:
        None where there is no such pixel.
    """
    (top, left), (bottom, right) = tight_box(mask).astype(int)
    tall, wide = (bottom - top + 2) // 2, (right - left + 2) // 2
    first = max(0, top - tall), max(0, left - wide)
    around = ~mask[first[0] : bottom + tall + 1, first[1] : right + wide + 1]
    places = np.argwhere(around)
    if not len(places):
        return None
    row, column = places[generator.integers(len(places))] + first
    return int(row), int(column)


def tight_box(mask: np.ndarray) -> np.ndarray:
    """Centres of the first and last pixel, [[row, column], [row, column]], float.

    Example:
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[1:6, 2:7] = True
        >>> tight_box(mask).tolist()
        [[1.0, 2.0], [5.0, 6.0]]
    """
    _need_object(mask)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([[rows[0], columns[0]], [rows[-1], columns[-1]]], dtype=float)


def jittered_box(mask: np.ndarray, generator: np.random.Generator, amount: float = LOOSENESS) -> np.ndarray:
    """The box as a hurried hand draws it: normal noise on each side, inside of the plane, always over the centre.

    Args:
        mask: (height, width).
        generator: draws the noise.
        amount: standard deviation as a share of the box's height or width, at least one pixel's.
    """
    box = tight_box(mask)
    spread = amount * np.maximum(box[1] - box[0] + 1, 1 / max(amount, 1e-9))
    moved = box + generator.normal(size=(2, 2)).clip(-2, 2) * spread * (amount > 0)
    middle, last = box.mean(axis=0), np.array(mask.shape) - 1.0
    return np.stack([moved[0].clip(0, middle), moved[1].clip(middle, last)])


def misplaced_box(mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """A box beside the object, or much too large or small: the tight one moved and scaled by normal noise.

    Its centre moves by `MISPLACEMENT` of the box's sides, the logarithm of each side by as much; it stays in the plane
    and over at least two pixels along each axis.
    """
    box, last = tight_box(mask), np.array(mask.shape) - 1.0
    side = box[1] - box[0] + 1
    centre = box.mean(axis=0) + MISPLACEMENT * side * generator.normal(size=2)
    half = side * np.exp(MISPLACEMENT * generator.normal(size=2)) / 2
    first = np.clip(centre - half, 0, last - 1)
    return np.stack([first, np.clip(centre + half, first + 1, last)])


def draw_prompts(mask: np.ndarray, generator: np.random.Generator) -> tuple[SpatialPrompt, tuple[str, ...]]:
    """One prompt of every kind, and the click once more at a random place.

    Args:
        mask: (height, width) of the object.
        generator: draws clicks and noise.

    Returns:
        Prompts, one row each, and their kinds: `point` at the centre and at random, `points` (two inside, one just
        outside), `box`, `loose_box`, `misplaced_box` and `box_and_point`.

    Raises:
        InputError: an empty mask.

    Example:
        >>> mask = np.zeros((9, 9), bool)
        >>> mask[1:6, 2:7] = True
        >>> prompts, kinds = draw_prompts(mask, np.random.default_rng(0))
        >>> len(prompts), kinds[:3]
        (7, ('point', 'point', 'points'))
    """
    centre = (*centre_point(mask), 1)
    anywhere, first, second, third = ((int(r), int(c), 1) for r, c in sample_points(mask, 4, generator))
    outside = outside_point(mask, generator)
    several = (first, second, third) if outside is None else (first, second, (*outside, 0))
    box, loose = _flat(tight_box(mask)), _flat(jittered_box(mask, generator))
    asked = [
        ("point", ObjectPrompt("", (centre,))),
        ("point", ObjectPrompt("", (anywhere,))),
        ("points", ObjectPrompt("", several)),
        ("box", ObjectPrompt("", (), box)),
        ("loose_box", ObjectPrompt("", (), loose)),
        ("misplaced_box", ObjectPrompt("", (), _flat(misplaced_box(mask, generator)))),
        ("box_and_point", ObjectPrompt("", (anywhere,), box)),
    ]
    return spatial_rows([prompt for _, prompt in asked]), tuple(kind for kind, _ in asked)


def prompt_of(mask: np.ndarray, kind: str, name: str, generator: np.random.Generator) -> ObjectPrompt:
    """One prompt of a kind, for tools that prompt with masks that are there already.

    Args:
        mask: (height, width) of the object.
        kind: `point`, `box`, `loose_box` or `box_and_point`.
        name: of the object.
        generator: draws the noise of a loose box.

    Raises:
        ConfigError: another kind.
    """
    point = (*centre_point(mask), 1)
    if kind == "point":
        return ObjectPrompt(name, (point,))
    if kind == "box":
        return ObjectPrompt(name, (), _flat(tight_box(mask)))
    if kind == "loose_box":
        return ObjectPrompt(name, (), _flat(jittered_box(mask, generator)))
    if kind == "box_and_point":
        return ObjectPrompt(name, (point,), _flat(tight_box(mask)))
    raise ConfigError(f"A prompt of kind {kind!r}, expected point, box, loose_box or box_and_point.")


def pick(objects: Sequence, most: int, generator: np.random.Generator) -> list:
    """At most so many, drawn evenly, in their order."""
    if len(objects) <= most:
        return list(objects)
    return [objects[i] for i in sorted(generator.choice(len(objects), most, replace=False))]


def _clickable(mask: np.ndarray) -> np.ndarray:
    """(pixels, 2): of the eroded mask, or of the mask where erosion leaves nothing of it."""
    _need_object(mask)
    eroded = ndimage.binary_erosion(mask, np.ones((EROSION, EROSION)), border_value=1)
    return np.argwhere(eroded if eroded.any() else mask)


def _need_object(mask: np.ndarray) -> None:
    if mask.ndim != 2 or not mask.any():
        raise InputError(
            f"A mask of shape {mask.shape} with {int(mask.sum())} pixels, expected a plane with an object in it."
        )


def _flat(box: np.ndarray) -> tuple[float, float, float, float]:
    (top, left), (bottom, right) = box.tolist()
    return top, left, bottom, right
