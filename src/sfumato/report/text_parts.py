"""Which word each part of a mask hangs on: parts numbered by size, and what leaving a word out changes in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from scipy import ndimage

from ..pipeline.text_answer import Variant

MOST_PARTS = 4
LEAST_PIXELS = 10
"""Smaller parts are specks, unless there is no larger one."""
LEAST_CHANGE = 0.05
"""Of the mean probability; below, no single word is named."""


@dataclass(frozen=True)
class MaskPart:
    """A connected part of a mask.

    Args:
        number: 1 is the largest.
        pixels: of it.
        changes: words, and the mean absolute change of the probability inside without each, in [0, 1]; largest first.
    """

    number: int
    pixels: int
    changes: tuple[tuple[str, float], ...]

    @property
    def deciding(self) -> str:
        """The word that changes most, or that no single word does.

        Example:
            >>> MaskPart(1, 20, (("left", 0.6), ("polyp", 0.1))).deciding
            'left'
            >>> MaskPart(1, 20, (("polyp", 0.01),)).deciding
            'no single word'
        """
        word, change = self.changes[0] if self.changes else ("", 0.0)
        return word if change >= LEAST_CHANGE else "no single word"


def number_parts(mask: np.ndarray) -> np.ndarray:
    """The largest parts of a picture's mask, numbered from the largest on; 0 elsewhere, and in specks.

    Args:
        mask: (rows, columns) boolean; pixels that share an edge or a corner are one part.

    Returns:
        (rows, columns) uint8.

    Example:
        >>> number_parts(np.array([[1, 0, 1, 1]]) > 0).tolist()
        [[0, 0, 1, 1]]
    """
    found, count = ndimage.label(mask, np.ones((3, 3)))  # type: ignore[misc]  # a pair, as no output is given
    pixels = np.bincount(found.ravel(), minlength=count + 1)[1:]
    numbers = np.zeros(mask.shape, np.uint8)
    for number, part in enumerate(np.argsort(-pixels, kind="stable")[:MOST_PARTS], 1):
        if number == 1 or pixels[part] >= LEAST_PIXELS:
            numbers[found == part + 1] = number
    return numbers


def words_by_part(numbers: np.ndarray, words: Sequence[Variant]) -> tuple[MaskPart, ...]:
    """The words by what each changes in each part.

    Args:
        numbers: of `number_parts`.
        words: left out in turn, each with its shift (rows, columns).

    Example:
        >>> left = Variant("left", 1.0, np.array([[0.5, 0.7, 0.0]]))
        >>> part, = words_by_part(np.array([[1, 1, 0]]), [left])
        >>> part.pixels, part.deciding, round(part.changes[0][1], 3)
        (2, 'left', 0.6)
    """
    parts = []
    for number in range(1, int(numbers.max(initial=0)) + 1):
        inside = numbers == number
        changes = [(w.text, float(np.abs(w.shift[inside]).mean())) for w in words if w.shift is not None]
        changes.sort(key=lambda change: -change[1])
        parts.append(MaskPart(number, int(inside.sum()), tuple(changes)))
    return tuple(parts)


def deepest(inside: np.ndarray) -> tuple[int, int]:
    """Row and column of the pixel of a region (rows, columns) that is furthest from its outside.

    Example:
        >>> deepest(np.pad(np.ones((3, 3)), ((1, 1), (2, 1))) > 0)
        (2, 3)
    """
    depth = cast(np.ndarray, ndimage.distance_transform_edt(np.pad(inside, 1)))
    row, column = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(row) - 1, int(column) - 1
