"""Does an image look like a damaged copy of the others? Learnt from the data set itself, without any label.

Copies of some images are damaged on purpose (noise, blur, ghosts, ...) and a kernel machine learns to tell copies from
originals by their descriptors. What it says of a case comes from originals and copies of other cases only. It knows the
kinds of damage it was shown; for others there is the distance to the neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ...errors import InputError
from .neighbours import Blocks, squared_distances

REGULARISATION = 0.1
SHARPNESS = 3.0
"""Of the Gaussian kernel, in units of 1 / median squared distance."""
MOST_DEVIATIONS = 8.0
"""Beyond this many standard deviations a number counts as this far out."""
FOLDS = 5
SAMPLED = 400
"""Rows from which the typical distance is taken."""


@dataclass(frozen=True)
class Lessons:
    """Originals, and copies of them that were damaged on purpose.

    Args:
        originals: blocks of (cases, numbers), see `neighbours.Blocks`.
        copies: the same blocks of (copies, numbers).
        kinds: what was done to each copy.
        owners: position of each copy's original.

    Raises:
        InputError: no original, or numbers of copies that differ.
    """

    originals: Blocks
    copies: Blocks
    kinds: tuple[str, ...]
    owners: Int[np.ndarray, "copies"]

    def __post_init__(self) -> None:
        lengths = {len(block) for block in self.copies} | {len(self.kinds), len(self.owners)}
        if len(lengths) != 1 or 0 in lengths or not len(self.originals[0]):
            raise InputError(
                f"{len(self.originals[0])} originals and {sorted(lengths)} copies, kinds and owners, expected some "
                "originals, and a kind and an owner of every copy."
            )

    def of(self, cases: Int[np.ndarray, "cases"]) -> Lessons:
        """The lessons of some originals alone."""
        shown = np.isin(self.owners, cases)
        place = np.searchsorted(cases, self.owners[shown])
        kinds = tuple(kind for kind, s in zip(self.kinds, shown, strict=True) if s)
        return Lessons([b[cases] for b in self.originals], [b[shown] for b in self.copies], kinds, place)


@dataclass(frozen=True)
class DamageDetector:
    """Kernel ridge regression from descriptors to "damaged", and to each kind of damage.

    Args:
        kinds: names of the kinds of damage it was shown.
        means: per block, (numbers,).
        deviations: per block, (numbers,), > 0.
        support: (rows, numbers) standardised originals and copies.
        weights: (rows, 1 + kinds).
        offsets: (1 + kinds,).
        sharpness: of the kernel exp(-sharpness |a - b|^2).
    """

    kinds: tuple[str, ...]
    means: tuple[np.ndarray, ...]
    deviations: tuple[np.ndarray, ...]
    support: Float[np.ndarray, "rows numbers"]
    weights: Float[np.ndarray, "rows outputs"]
    offsets: Float[np.ndarray, "outputs"]
    sharpness: float

    @classmethod
    def fit(cls, lessons: Lessons) -> DamageDetector:
        """Learn to tell copies from originals; originals weigh as much as all copies together.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> sharp, blurred = rng.normal(size=(20, 3)), rng.normal(size=(20, 3)) - [4, 0, 0]
            >>> lessons = Lessons([sharp], [blurred], ("blur",) * 20, np.arange(20))
            >>> score, kind = DamageDetector.fit(lessons)([np.array([[-4.0, 0, 0], [0, 0, 0]])])
            >>> bool(score[0] > 0 > score[1]), kind
            (True, ['blur', 'blur'])
        """
        both = [
            np.concatenate(pair).astype(np.float64)
            for pair in zip(lessons.originals, lessons.copies, strict=True)
        ]
        means = tuple(block.mean(axis=0) for block in both)
        deviations = tuple(np.where((d := block.std(axis=0)) > 1e-9, d, 1.0) for block in both)
        support = _standardised(both, means, deviations)
        kinds, targets = _targets(lessons)
        copies = len(lessons.kinds)
        originals = len(support) - copies
        importance = np.r_[np.ones(originals), np.full(copies, originals / copies)]
        offsets = np.average(targets, axis=0, weights=importance)
        sharpness = SHARPNESS / _typical_square(support)
        kernel = np.exp(-sharpness * squared_distances(support, support))
        kernel[np.diag_indices_from(kernel)] += REGULARISATION / importance
        weights = np.linalg.solve(kernel, targets - offsets)
        return cls(kinds, means, deviations, support, weights, offsets, sharpness)

    def __call__(self, blocks: Blocks) -> tuple[Float[np.ndarray, "cases"], list[str]]:
        """How damaged each case looks, about -1 for originals and 1 for copies, and the likeliest kind."""
        cases = _standardised(blocks, self.means, self.deviations)
        kernel = np.exp(-self.sharpness * squared_distances(cases, self.support))
        said = kernel @ self.weights + self.offsets
        return said[:, 0], [self.kinds[best] for best in said[:, 1:].argmax(axis=1)]


def cross_fitted(lessons: Lessons, folds: int = FOLDS) -> tuple[Float[np.ndarray, "originals"], list[str]]:
    """What detectors say of the originals, each learnt from the other folds' originals and copies.

    Raises:
        InputError: fewer than two originals.
    """
    count = len(lessons.originals[0])
    if count < 2:
        raise InputError(f"{count} original, expected at least 2 to judge one by another.")
    fold = np.arange(count) % min(folds, count)
    scores, kinds = np.zeros(count), np.full(count, "", object)
    for number in np.unique(fold):
        judged = np.flatnonzero(fold == number)
        detector = DamageDetector.fit(lessons.of(np.flatnonzero(fold != number)))
        scores[judged], kinds[judged] = detector([block[judged] for block in lessons.originals])
    return scores, [str(kind) for kind in kinds]


def _targets(lessons: Lessons) -> tuple[tuple[str, ...], np.ndarray]:
    """1 where a row is damaged, then where it is of each kind; else -1."""
    names = tuple(sorted(set(lessons.kinds)))
    originals = len(lessons.originals[0])
    targets = np.full((originals + len(lessons.kinds), 1 + len(names)), -1.0)
    targets[originals:, 0] = 1.0
    of_kind = np.array([names.index(kind) for kind in lessons.kinds])
    targets[originals + np.arange(len(of_kind)), 1 + of_kind] = 1.0
    return names, targets


def _typical_square(support: np.ndarray) -> float:
    sample = support[:: max(1, len(support) // SAMPLED)]
    squares = squared_distances(sample, sample)
    return float(np.median(squares[squares > 1e-9])) if (squares > 1e-9).any() else 1.0


def _standardised(
    blocks: Blocks, means: Sequence[np.ndarray], deviations: Sequence[np.ndarray]
) -> np.ndarray:
    scaled = [
        np.clip((block - mean) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS) / np.sqrt(max(1, len(mean)))
        for block, mean, deviation in zip(blocks, means, deviations, strict=True)
    ]
    return np.concatenate(scaled, axis=1)
