"""What the head is fitted on: aligned crops of logits, tapped features and labels, the features computed once.

The segmenter is frozen and nothing is augmented, so its features are kept after the first pass, up to a limit; what
does not fit is computed again when it is drawn. The crops of a step depend on the seed and the step alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..interfaces import Segmenter
from ..types import Batch, Segmentation
from .labels import IGNORE, label_of

FOREGROUND = 0.67
"""Share of crops centred on a labelled foreground voxel (the released training scripts' share)."""


@dataclass(frozen=True)
class Crop:
    """One row: a segmentation with its features, and the label (1, *grid)."""

    segmentation: Segmentation
    label: Tensor


@dataclass
class FeatureSource:
    """Draws crops of the rows of labelled cases.

    Args:
        segmenter: the frozen network.
        cases: labelled batches.
        patch: largest crop; whole rows where they are not larger.
        batch_size: rows per step.
        seed: of the draws.
        limit: bytes of features that are kept.

    Raises:
        InputError: a case without label, or no labelled voxel in all of them.
    """

    segmenter: Segmenter
    cases: Sequence[Batch]
    patch: Sequence[int]
    batch_size: int
    seed: int
    limit: float
    rows: list[tuple[int, int]] = field(init=False)
    _kept: dict[int, Segmentation] = field(init=False, default_factory=dict)
    _bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        labels = [label_of(case, i) for i, case in enumerate(self.cases)]
        self.rows = [
            (i, r) for i, y in enumerate(labels) for r in range(len(y)) if bool((y[r] != IGNORE).any())
        ]
        if not self.rows:
            raise InputError(
                "No labelled voxel in the fitting cases, expected some; check the labels for -1."
            )

    def only(self, cases: Collection[int]) -> FeatureSource:
        """A source that draws from some of the cases alone, and shares the features that are kept."""
        part = copy(self)
        part.rows = [row for row in self.rows if row[0] in cases]
        return part

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every row was drawn once."""
        return -(-len(self.rows) // self.batch_size)

    def segmentation(self, index: int) -> Segmentation:
        """The segmentation of one case, with features, on the CPU; computed once while memory allows."""
        if index in self._kept:
            return self._kept[index]
        found = self.segmenter.segment(self.cases[index])
        features = {k: v.cpu() for k, v in found.features.items()}
        result = replace(found, logits=found.logits.cpu(), features=features)
        size = sum(v.numel() * v.element_size() for v in (result.logits, *features.values()))
        if self._bytes + size <= self.limit:
            self._kept[index] = result
            self._bytes += size
        return result

    def batch(self, step: int) -> Batch:
        """What the training loop moves to its device; the crops themselves are looked up by step."""
        case, row = self._drawn(step)[0]
        return Batch(self.cases[case].image[row : row + 1])

    def crops(self, step: int) -> list[Crop]:
        """The crops of one optimiser step."""
        found = []
        for position, (case, row) in enumerate(self._drawn(step)):
            rng = np.random.default_rng([self.seed, 2, step, position])
            label = label_of(self.cases[case], case)[row : row + 1].cpu()
            found.append(cut(self.segmentation(case), row, label, self.patch, rng))
        return found

    def _drawn(self, step: int) -> list[tuple[int, int]]:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.rows))
        start = position * self.batch_size
        return [self.rows[i] for i in order[start : start + self.batch_size]]


def cut(
    segmentation: Segmentation, row: int, label: Tensor, patch: Sequence[int], rng: np.random.Generator
) -> Crop:
    """One row's crop around a labelled voxel, aligned with the coarsest feature."""
    grid = tuple(label.shape[1:])
    strides = strides_of(segmentation.features, grid)
    sides = [
        n if p >= n or not s else max(s, p // s * s) for n, p, s in zip(grid, patch, strides, strict=True)
    ]
    starts = [0] * len(grid)
    if tuple(sides) != grid:
        centre = _centre(label[0], rng)
        wanted = [c - side // 2 for c, side in zip(centre, sides, strict=True)]
        starts = [
            min(max(w, 0), n - side) // max(s, 1) * max(s, 1)
            for w, n, side, s in zip(wanted, grid, sides, strides, strict=True)
        ]
    features = {k: _window(v, row, starts, sides, grid) for k, v in segmentation.features.items()}
    logits = _window(segmentation.logits, row, starts, sides, grid)
    region = tuple(slice(a, a + n) for a, n in zip(starts, sides, strict=True))
    return Crop(Segmentation(logits, segmentation.link, features), label[(slice(None), *region)])


def _centre(label: Tensor, rng: np.random.Generator) -> list[int]:
    foreground = (label > 0).flatten().nonzero()[:, 0]
    known = (label != IGNORE).flatten().nonzero()[:, 0]
    choice = foreground if len(foreground) and rng.random() < FOREGROUND else known
    return [int(i) for i in np.unravel_index(int(choice[rng.integers(len(choice))]), tuple(label.shape))]


def strides_of(features: Mapping[str, Tensor], grid: Sequence[int]) -> list[int]:
    """Per axis, what a crop's start and side must be multiples of; 0 where a feature's grid does not divide it."""
    strides = []
    for axis, n in enumerate(grid):
        sides = [v.shape[2 + axis] for v in features.values()]
        strides.append(0 if any(n % s for s in sides) else math.lcm(1, *(n // s for s in sides)))
    return strides


def _window(
    value: Tensor, row: int, starts: Sequence[int], sides: Sequence[int], grid: Sequence[int]
) -> Tensor:
    part = value[row : row + 1]
    for axis, (start, side, n) in enumerate(zip(starts, sides, grid, strict=True)):
        own = value.shape[2 + axis]
        if side != n:
            part = part.narrow(2 + axis, start * own // n, side * own // n)
    return part
