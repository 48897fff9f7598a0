"""How well a score ranks mistakes: exact, tie-aware, from one sort.

With N voxels, errors e in {0, 1}, scores u (higher = more suspicious) and error rate r:

- AUROC = P(u_error > u_correct) + P(tie) / 2; undefined when r is 0 or 1.
- AUPRC = average precision, errors are positive; undefined when r is 0.
- AURC = mean over k of (errors among the k least suspicious) / k, a fraction (Geifman and El-Yaniv, 2017).
- E-AURC = AURC - (r + (1 - r) ln(1 - r)), the excess over a perfect ranking of many voxels.
- AUGRC = mean over k of (errors among the k least suspicious) / N (Traub et al., 2024).

Voxels of equal score share their group's mean error, so the order of the input never matters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError


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


def selective(scores: np.ndarray, errors: np.ndarray) -> Selective:
    """Rank mistakes by a score and judge the ranking.

    Args:
        scores: any shape, finite, higher = more likely wrong.
        errors: the same shape, true or 1 where the prediction is wrong.

    Raises:
        InputError: other shapes, or a score that is not finite.

    Example:
        >>> result = selective(np.arange(10.0), np.array([0, 0, 1, 0, 0, 0, 0, 1, 0, 1]))
        >>> round(result.aurc, 7), round(result.auroc, 7)
        (0.1865079, 0.7142857)
    """
    scores, errors = np.ravel(scores), np.ravel(errors).astype(bool)
    if scores.shape != errors.shape:
        raise InputError(f"{scores.size} scores and {errors.size} errors, expected one error per score.")
    if not np.isfinite(scores).all():
        raise InputError("A score is NaN or infinite, expected finite numbers.")
    count = scores.size
    if count == 0:
        undefined = float("nan")
        return Selective(undefined, undefined, undefined, undefined, undefined, undefined, 0)
    group_size, group_errors = _groups(scores, errors)
    wrong = float(group_errors.sum())
    rate = wrong / count
    size, bad = group_size.astype(float), group_errors.astype(float)
    aurc, augrc = _risk_areas(size, bad, count)
    best = rate + (1 - rate) * np.log1p(-rate) if rate < 1 else 1.0
    return Selective(
        _auroc(size, bad), _average_precision(size, bad), aurc, float(aurc - best), augrc, rate, count
    )


def _groups(scores: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Size and number of errors of each group of equal scores, in increasing order of score."""
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), scores.size - 1)
    cumulated = np.cumsum(errors[order], dtype=np.int64)[ends]
    return np.diff(ends, prepend=-1), np.diff(cumulated, prepend=0)


def _auroc(size: np.ndarray, bad: np.ndarray) -> float:
    good = size - bad
    if bad.sum() == 0 or good.sum() == 0:
        return float("nan")
    below = np.cumsum(good) - good
    return float((bad * (below + 0.5 * good)).sum() / (bad.sum() * good.sum()))


def _average_precision(size: np.ndarray, bad: np.ndarray) -> float:
    if bad.sum() == 0:
        return float("nan")
    hits, seen = np.cumsum(bad[::-1]), np.cumsum(size[::-1])
    return float((bad[::-1] / bad.sum() * hits / seen).sum())


def _risk_areas(size: np.ndarray, bad: np.ndarray, count: int) -> tuple[float, float]:
    # Inside a group that starts after K voxels with E errors and holds g voxels of mean error m:
    # sum over j = 1..g of (E + j m) / (K + j) = g m + (E - K m) (H(K + g) - H(K)), H the harmonic numbers.
    from scipy.special import digamma

    before, errors = np.cumsum(size) - size, np.cumsum(bad) - bad
    mean = bad / size
    harmonic = digamma(before + size + 1) - digamma(before + 1)
    aurc = (size * mean + (errors - before * mean) * harmonic).sum() / count
    augrc = (size * errors + mean * size * (size + 1) / 2).sum() / count**2
    return float(aurc), float(augrc)


def risk_coverage_curve(
    scores: np.ndarray, errors: np.ndarray, points: int = 100
) -> tuple[np.ndarray, np.ndarray]:
    """Coverage in (0, 1] and the error rate among the most trusted share of voxels, at `points` coverages.

    Inside a group of equal scores the errors are taken as evenly spread.
    """
    size, bad = _groups(np.ravel(scores), np.ravel(errors).astype(bool))
    seen, wrong = np.append(0, np.cumsum(size)), np.append(0, np.cumsum(bad))
    coverage = np.arange(1, points + 1) / points
    return coverage, np.interp(coverage * seen[-1], seen, wrong) / (coverage * seen[-1])
