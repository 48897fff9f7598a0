"""Does a score find what is worth correcting? The area under the curve of quality while high scores are corrected.

Cases are corrected in descending order of a score; M(r) is the mean quality after the first share r, and A its area
over r in [0, 1]. The relative area says where A lies between the worst order and the best one (UncertainSAM, Kaiser et
al., 2025, figure 5 and table 6; the formula is not in the paper, it is the reading that best fits its numbers):

    rAUC = (A - A_worst) / (A_best - A_worst)

in [0, 1]; 0.5 is chance, and only the order of the scores counts. As areas are linear in the gains, the mean over all
orders of equal scores is exact: each takes the mean gain of its group. With R the mid-ranks, g the gains and cov a
covariance over cases, 2 rAUC - 1 = cov(g, R(score)) / cov(g, R(g)), which is how it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import RESAMPLES, Interval, resample_weights, resampled_interval

_CELLS = 1 << 20


@dataclass(frozen=True)
class CorrectionCurve:
    """Mean quality over the share of cases that are corrected; linear between its points.

    Args:
        share: (n + 1,) 0, 1/n, ..., 1.
        quality: (n + 1,) mean over all cases.
    """

    share: np.ndarray
    quality: np.ndarray

    @property
    def area(self) -> float:
        """Mean quality over all shares."""
        return float((self.quality[1:] + self.quality[:-1]).mean() / 2)


def correction_curve(scores: np.ndarray, before: np.ndarray, after: np.ndarray) -> CorrectionCurve:
    """M(r): mean quality after the cases with the highest scores are corrected; the mean over all orders of equal ones.

    Args:
        scores: (cases,) higher = corrected earlier.
        before: (cases,) quality such as IoU without the correction.
        after: (cases,) with it; may be lower. Cases that are not finite in all three are left out.

    Raises:
        InputError: other shapes, or no case.

    Example:
        >>> curve = correction_curve(np.array([3, 1]), np.array([0.5, 0.9]), np.array([0.8, 0.9]))
        >>> curve.quality.round(2).tolist()
        [0.7, 0.85, 0.85]
    """
    scores, before, after = _known(scores, before, after)
    if not len(scores):
        raise InputError("No case with a finite score and quality, expected at least one.")
    group, size = _groups(-scores)
    shared = (np.bincount(group, weights=after - before) / size)[np.sort(group)]
    gained = np.concatenate([[0.0], np.cumsum(shared)]) / len(scores)
    return CorrectionCurve(np.linspace(0, 1, len(scores) + 1), before.mean() + gained)


def relative_auc(scores: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
    """Where the area of `correction_curve` lies between the worst order, 0, and the best one, 1.

    Arguments as for `correction_curve`.

    Returns:
        NaN where all gains are equal, so that no order is better than another.

    Example:
        >>> before, after = np.array([0.5, 0.6, 0.9]), np.array([0.9, 0.8, 0.9])
        >>> relative_auc(np.array([3, 1, 2]), before, after), relative_auc(np.array([1, 1, 1]), before, after)
        (0.75, 0.5)
    """
    scores, before, after = _known(scores, before, after)
    return float(_weighted(scores, before, after, np.ones((1, len(scores))))[0])


def relative_auc_interval(
    scores: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """`relative_auc` with a 95 % percentile interval from resampling groups, such as patients, with replacement.

    Arguments as for `correction_curve`, and the group of every case.

    Raises:
        InputError: not one group per case, or no case.

    Example:
        >>> gains = np.linspace(0, 1, 20)
        >>> found = relative_auc_interval(gains, 0 * gains, gains, [str(i // 2) for i in range(20)])
        >>> found.value, found.low, found.high
        (1.0, 1.0, 1.0)
    """
    value, resampled = _resampled(scores, before, after, groups, seed, resamples)
    return resampled_interval(value, resampled)


def relative_auc_difference(
    pair: tuple[np.ndarray, np.ndarray],
    before: np.ndarray,
    after: np.ndarray,
    groups: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """`relative_auc` of the first score minus that of the second, paired: both see the same cases and resamples.

    Arguments as for `relative_auc_interval`; a case where either score is not finite is left out for both.

    Example:
        >>> gains = np.linspace(0, 1, 20)
        >>> found = relative_auc_difference((gains, -gains), 0 * gains, gains, [str(i) for i in range(20)])
        >>> found.value, found.excludes_zero
        (1.0, True)
    """
    joint = [np.where(np.isfinite(pair[0]) & np.isfinite(pair[1]), score, np.nan) for score in pair]
    one, other = (_resampled(score, before, after, groups, seed, resamples) for score in joint)
    return resampled_interval(one[0] - other[0], one[1] - other[1])


def _resampled(
    scores: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    groups: Sequence[str],
    seed: int,
    resamples: int,
) -> tuple[float, np.ndarray]:
    if len(scores) != len(groups):
        raise InputError(f"{len(scores)} scores and {len(groups)} groups, expected one group per case.")
    known = np.isfinite(scores) & np.isfinite(before) & np.isfinite(after)
    if not known.any():
        raise InputError("No case with a finite score and quality, expected at least one.")
    one, two, three = (np.asarray(v, dtype=float)[known] for v in (scores, before, after))
    names, owner = np.unique(np.asarray(groups)[known], return_inverse=True)
    weights = resample_weights(len(names), resamples, seed)[:, owner]
    step = max(1, _CELLS // int(known.sum()))
    parts = [_weighted(one, two, three, weights[i : i + step]) for i in range(0, resamples, step)]
    return float(_weighted(one, two, three, np.ones((1, int(known.sum()))))[0]), np.concatenate(parts)


def _weighted(scores: np.ndarray, before: np.ndarray, after: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(resamples,): relative areas of cases that are present so many times."""
    gains = after - before
    found, best = (_concentration(by, gains, weights) for by in (scores, gains))
    # Gains that are equal but for rounding leave a little in the denominator, which is a sum of gains times ranks.
    largest = np.abs([before, after]).max(initial=0.0)
    told = best > 4 * np.finfo(float).eps * largest * np.square(weights.sum(axis=1))
    return 0.5 + 0.5 * np.divide(found, best, out=np.full(len(weights), np.nan), where=told)


def _concentration(by: np.ndarray, gains: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(resamples,): sum of gain times mid-rank, the ranks taken from their mean."""
    group, _ = _groups(by)
    mass = np.zeros((len(weights), int(group.max(initial=-1)) + 1))
    for row, weight in zip(mass, weights, strict=True):
        row += np.bincount(group, weights=weight, minlength=len(row))
    middle = np.cumsum(mass, axis=1) - mass / 2
    ranks = middle[:, group] - weights.sum(axis=1, keepdims=True) / 2
    return (weights * ranks * gains).sum(axis=1)


def _groups(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of every value's group of equal ones, in ascending order, and the groups' sizes."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    return group, size


def _known(scores: np.ndarray, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, ...]:
    tables = [np.asarray(v, dtype=float).ravel() for v in (scores, before, after)]
    if len({len(t) for t in tables}) != 1:
        sizes = ", ".join(str(len(t)) for t in tables)
        raise InputError(f"{sizes} scores and qualities before and after, expected one of each per case.")
    known = np.isfinite(tables).all(axis=0)
    return tuple(t[known] for t in tables)
