"""Ranking metrics of any number of voxels in a few MiB: a histogram of right and wrong voxels by score.

The bin of a score is the leading 16 or 20 bits of its order-preserving float32 key (sign, exponent, leading digits), so
no range has to be known, and a bin is at most 2^-7 or 2^-11 of its score wide. Counters are int64: the order of
voxels, the chunks they come in and the order of merging never matter.

Inside a bin the order of the voxels is unknown. AUROC, AURC and AUGRC are smallest or largest when its errors come
first or last; average precision lies between distinct errors below all right voxels of the bin and tied errors above
them. Both ends are computed, and hold for every score that could have filled the histogram.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, InputError
from .harmonic import harmonic_gap, weighted_gap
from .kernels import add_scores, uses_numba
from .keys import chunks, flat_pair
from .selective import areas_of_nothing, curve, perfect_aurc
from .tie_groups import AREAS, TieGroups, areas

BITS = (16, 20)
ROUNDING = 1e-12
"""Relative: bounds are widened by it, far more than float64 rounding of the sums."""


class Bounded(NamedTuple):
    """A value and what the exact value of the same voxels cannot be below or above; NaN where undefined."""

    value: float
    low: float
    high: float

    @property
    def bound(self) -> float:
        """By how much the value can be off."""
        return max(self.high - self.value, self.value - self.low)


@dataclass(frozen=True)
class StreamedSelective:
    """As `Selective`, each area with its bounds; the value takes a bin for a tie group."""

    auroc: Bounded
    auprc: Bounded
    aurc: Bounded
    eaurc: Bounded
    augrc: Bounded
    error_rate: float
    count: int


@dataclass(eq=False)
class ScoreHistogram:
    """Right and wrong voxels by score; add voxels with `update`, other histograms with `+`.

    Args:
        bits: 16 (1 MiB) or 20 (16 MiB).
        counts: (2, 2^bits) int64, right and wrong voxels in increasing order of score.

    Raises:
        ConfigError: other bits, or counts of another shape.

    Example:
        >>> whole, part = ScoreHistogram(), ScoreHistogram()
        >>> whole.update(np.array([0.5, -1.0, 2.0, 4.0]), np.array([0, 0, 1, 0]))
        >>> part.update(np.array([2.0, 4.0]), np.array([1, 0]))
        >>> rest = ScoreHistogram()
        >>> rest.update(np.array([-1.0, 0.5]), np.array([0, 0]))
        >>> part + rest == whole
        True
        >>> whole.selective().auroc.value == 2 / 3
        True
    """

    bits: int = 16
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ConfigError(f"A histogram of {self.bits} bits is not supported, expected 16 or 20.")
        if self.counts.size == 0:
            self.counts = np.zeros((2, 1 << self.bits), np.int64)
        if self.counts.shape != (2, 1 << self.bits):
            raise ConfigError(f"Counts are {self.counts.shape}, expected (2, {1 << self.bits}).")

    def update(self, scores: np.ndarray, errors: np.ndarray, backend: str = "auto") -> None:
        """Add voxels.

        Args:
            scores: any shape, finite; rounded to float32, which never swaps two scores.
            errors: the same shape, true or 1 where the prediction is wrong.
            backend: `numpy`, `numba` (the `fast` extra) or `auto`; all give the same counts.

        Raises:
            InputError: other shapes, or a score that is not finite in float32. Nothing was added then.
        """
        scores, errors = flat_pair(scores, errors)
        check_finite(scores)
        compiled = uses_numba(backend, scores.size)
        for part in chunks(scores.size):
            values = np.ascontiguousarray(scores[part], np.float32)
            add_scores(self.counts, values, np.ascontiguousarray(errors[part]), compiled)

    def __add__(self, other: ScoreHistogram) -> ScoreHistogram:
        if self.bits != other.bits:
            raise ConfigError(f"Histograms of {self.bits} and {other.bits} bits do not add up.")
        return ScoreHistogram(self.bits, self.counts + other.counts)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ScoreHistogram)
            and self.bits == other.bits
            and np.array_equal(self.counts, other.counts)
        )

    __hash__ = None  # type: ignore[assignment]

    def selective(self) -> StreamedSelective:
        """AUROC, AUPRC, AURC, E-AURC and AUGRC with proven bounds."""
        return streamed_selective(*self.counts)

    def coarsened(self, edges: np.ndarray) -> np.ndarray:
        """Right and wrong voxels (2, groups) with bins merged; `edges` are first bins, increasing from 0.

        Example:
            >>> ScoreHistogram().coarsened(np.array([0, 100])).tolist()
            [[0, 0], [0, 0]]
        """
        return np.add.reduceat(self.counts, edges, axis=1)

    def risk_coverage(self, points: int = 100) -> tuple[np.ndarray, np.ndarray]:
        """As `risk_coverage_curve`; errors are taken as evenly spread over their bin."""
        seen, wrong = self.counts.sum(0).cumsum(), self.counts[1].cumsum()
        return curve(np.append(0, seen), np.append(0, wrong), points)


def check_finite(scores: np.ndarray) -> None:
    """Raise `InputError` unless all scores (voxels,) are finite as float32."""
    for part in chunks(scores.size):
        with np.errstate(over="ignore"):
            if not np.isfinite(scores[part].astype(np.float32, copy=False)).all():
                raise InputError("A score is NaN, infinite or beyond float32, expected finite numbers.")


def streamed_selective(right: np.ndarray, wrong: np.ndarray) -> StreamedSelective:
    """The metrics with their bounds from right and wrong voxels (bins,) int64 in increasing order of score."""
    groups, count, bad = TieGroups.from_counts(right, wrong), int(right.sum() + wrong.sum()), int(wrong.sum())
    kept = np.flatnonzero(groups.errors)
    groups = TieGroups(groups.start[kept], groups.size[kept], groups.errors[kept], groups.before[kept])
    nothing = areas_of_nothing(count, bad)
    value, first, last = (
        nothing + areas(g, count, bad) for g in (groups, groups.errors_first(), groups.errors_last())
    )
    low, high = np.minimum(first, last), np.maximum(first, last)
    low[1], high[1] = precision_bounds(groups, count, bad)
    low, high = low * (1 - ROUNDING), high * (1 + ROUNDING)
    four = {
        n: Bounded(*map(float, v)) for n, v in zip(AREAS, zip(value, low, high, strict=True), strict=True)
    }
    best = float(perfect_aurc(bad / count if count else float("nan")))
    excess = Bounded(*(v - best for v in four["aurc"]))
    rate = bad / count if count else float("nan")
    return StreamedSelective(four["auroc"], four["auprc"], four["aurc"], excess, four["augrc"], rate, count)


def precision_bounds(groups: TieGroups, count: int, wrong: int) -> tuple[float, float]:
    """Smallest and largest average precision of any scores inside the groups.

    Seen from the top, S voxels with h errors come before a bin of a right and b wrong voxels. The i-th error from the
    top is counted with at least i errors and at most all right voxels of the bin: (h + i) / (S + a + i). It is
    counted with at most b errors and no right voxel: (h + b) / (S + b).
    """
    if wrong == 0:
        return float("nan"), float("nan")
    b, above = groups.errors, count - groups.start - groups.size
    hits = wrong - groups.before - b
    below = above + groups.size - b
    # h + i = (S + a + i) - (S + a - h), summed over i, in terms that are never negative.
    least = (hits * harmonic_gap(below, b) + weighted_gap(below, b)).sum()
    most = (b * ((hits + b) / (above + b))).sum()
    return float(least / wrong), float(most / wrong)
