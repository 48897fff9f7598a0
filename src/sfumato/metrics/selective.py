"""How well a score ranks mistakes: exact, tie-aware, from one sort.

With N voxels, errors e in {0, 1}, scores u (higher = more suspicious) and error rate r:

- AUROC = P(u_error > u_correct) + P(tie) / 2; undefined when r is 0 or 1.
- AUPRC = average precision, errors are positive; undefined when r is 0.
- AURC = mean over k of (errors among the k least suspicious) / k, a fraction (Geifman and El-Yaniv, 2017).
- E-AURC = AURC - (r + (1 - r) ln(1 - r)), the excess over a perfect ranking of many voxels.
- AUGRC = mean over k of (errors among the k least suspicious) / N (Traub et al., 2024).

Voxels of equal score share their group's mean error, so the order of the input never matters. The sums are those of
`tie_groups`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .buckets import bucketed_keys
from .kernels import uses_numba
from .keys import flat_pair, sorted_keys
from .tie_groups import areas, tie_groups


@dataclass(frozen=True)
class Selective:
    """The five numbers, the count of voxels and the error rate; NaN where a number is undefined."""

    auroc: float
    auprc: float
    aurc: float
    eaurc: float
    augrc: float
    error_rate: float
    count: int


def selective(scores: np.ndarray, errors: np.ndarray, backend: str = "auto") -> Selective:
    """Rank mistakes by a score and judge the ranking.

    Takes 4 bytes per voxel for float16, float32 and small integers, else 8, and a few MiB.

    Args:
        scores: any shape, finite, higher = more likely wrong; floats of 16 to 64 bits, integers or booleans.
        errors: the same shape, true or 1 where the prediction is wrong.
        backend: `numpy`, `numba` (the `fast` extra) or `auto`; all give the same bits.

    Raises:
        InputError: other shapes, or a score that is not finite.

    Example:
        >>> result = selective(np.arange(10.0), np.array([0, 0, 1, 0, 0, 0, 0, 1, 0, 1]))
        >>> round(result.aurc, 7), round(result.auroc, 7)
        (0.1865079, 0.7142857)
    """
    scores, errors = flat_pair(scores, errors)
    count, wrong = scores.size, int(np.count_nonzero(errors))
    total = areas_of_nothing(count, wrong)
    sort = bucketed_keys if uses_numba(backend, count, "buckets") else sorted_keys
    for block in tie_groups(sort(scores, errors)):
        total = total + areas(block, count, wrong)
    return summary(total, count, wrong)


def areas_of_nothing(count: int, wrong: int) -> np.ndarray:
    """What areas of blocks are added to: 0, or NaN where `count` and `wrong` leave an area undefined."""
    nan = float("nan")
    ranked = 0.0 if 0 < wrong < count else nan
    return np.array([ranked, 0.0 if wrong else nan, *(2 * [0.0 if count else nan])])


def perfect_aurc(rate: np.ndarray | float) -> np.ndarray:
    """AURC of a perfect ranking of many voxels at an error rate r in [0, 1]: r + (1 - r) ln(1 - r).

    Example:
        >>> float(perfect_aurc(0.01).round(9))
        5.0168e-05
    """
    right = 1 - np.asarray(rate, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(right > 0, 1 - right + right * np.log(np.maximum(right, 1e-300)), 1.0)


def summary(four: np.ndarray, count: int, wrong: int) -> Selective:
    """The result from the four areas."""
    auroc, auprc, aurc, augrc = (float(v) for v in four)
    rate = wrong / count if count else float("nan")
    return Selective(auroc, auprc, aurc, aurc - float(perfect_aurc(rate)), augrc, rate, count)


def risk_coverage_curve(
    scores: np.ndarray, errors: np.ndarray, points: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage in (0, 1] and the error rate among the most trusted share of voxels, at `points` coverages.

    Inside a group of equal scores the errors are taken as evenly spread; NaN without a voxel.

    Example:
        >>> coverage, risk = risk_coverage_curve(np.array([1.0, 2, 3, 4]), np.array([0, 0, 1, 1]), 2)
        >>> coverage.tolist(), risk.tolist()
        ([0.5, 1.0], [0.0, 0.5])
    """
    scores, errors = flat_pair(scores, errors)
    knots = [np.zeros((2, 1))]
    for block in tie_groups(sorted_keys(scores, errors)):
        ends = np.stack([block.start + block.size, block.before + block.errors])
        # Without an error between two groups the curve of errors is level, so starts and ends are all its corners.
        knots.append(np.stack([np.stack([block.start, block.before]), ends], axis=2).reshape(2, -1))
    seen, wrong = np.concatenate([*knots, [[scores.size], [np.count_nonzero(errors)]]], axis=1)
    return curve(seen, wrong, points)


def curve(seen: np.ndarray, wrong: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Coverage and risk from corners of the curve `errors among the first k voxels`, the last one at all voxels."""
    coverage = np.arange(1, points + 1) / points
    if seen[-1] == 0:
        return coverage, np.full(points, np.nan)
    return coverage, np.interp(coverage * seen[-1], seen, wrong) / (coverage * seen[-1])
