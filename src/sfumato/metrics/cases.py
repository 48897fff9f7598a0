"""Does a score per case find the cases that were segmented badly?

The risk of a case is 1 - Dice, in [0, 1]; its score is higher where it is more likely bad. Cases with a score or a risk
that is not finite are left out.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError

LEAST_CASES = 3
"""A rank correlation of two cases is always -1 or 1."""


def spearman(scores: np.ndarray, risks: np.ndarray) -> float:
    """Rank correlation of score and risk, in [-1, 1]; tied values get their mean rank (Spearman, 1904).

    NaN with fewer than 3 cases, or where all scores or all risks are equal.

    Example:
        >>> spearman(np.array([1, 2, 3, 4]), np.array([0.1, 0.2, 0.2, 0.4])).__round__(6)
        0.948683
    """
    scores, risks = _known(scores, risks)
    if len(scores) < LEAST_CASES or np.ptp(scores) == 0 or np.ptp(risks) == 0:
        return float("nan")
    a, b = (_ranks(v) - (len(scores) + 1) / 2 for v in (scores, risks))
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def case_aurc(scores: np.ndarray, risks: np.ndarray) -> float:
    """Mean over k of the mean risk of the k least suspicious cases; cases of equal score share their mean risk.

    In [0, 1], lower is better; a constant score gives the mean risk; NaN without a case (Geifman and El-Yaniv, 2017).

    Example:
        >>> case_aurc(np.array([1, 2, 2, 3]), np.array([0.0, 0.1, 0.3, 0.4])).__round__(6)
        0.108333
    """
    scores, risks = _known(scores, risks)
    if not len(scores):
        return float("nan")
    _, group = np.unique(scores, return_inverse=True)
    # Inside a group the order is that of the risks, so that rounding does not depend on the order of the cases.
    ordered = np.lexsort((risks, group))
    group, risks = group[ordered], risks[ordered]
    shared = (np.bincount(group, weights=risks) / np.bincount(group))[group]
    return float((np.cumsum(shared) / np.arange(1, len(shared) + 1)).mean())


def case_eaurc(scores: np.ndarray, risks: np.ndarray) -> float:
    """`case_aurc` minus that of the perfect score, which is the risk itself; >= 0, lower is better, NaN without a case.

    Example:
        >>> case_eaurc(np.array([1, 2, 3]), np.array([0.0, 0.5, 0.7]))
        0.0
    """
    return case_aurc(scores, risks) - case_aurc(_known(scores, risks)[1], _known(scores, risks)[1])


def case_auroc(scores: np.ndarray, dice: np.ndarray, below: float) -> float:
    """How well a score finds cases with a Dice below a limit: P(bad case scores higher) + P(tie) / 2, in [0, 1].

    NaN where all cases, or none, are below the limit.

    Args:
        scores: (cases,) higher = more likely bad.
        dice: (cases,) in [0, 1].
        below: a Dice under this is bad.

    Example:
        >>> case_auroc(np.array([1, 2, 2, 3]), np.array([0.9, 0.8, 0.6, 0.5]), 0.7)
        0.875
    """
    scores, dice = _known(scores, dice)
    bad = dice < below
    wrong, right = int(bad.sum()), int((~bad).sum())
    if not wrong or not right:
        return float("nan")
    return float((_ranks(scores)[bad].sum() - wrong * (wrong + 1) / 2) / (wrong * right))


def _known(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.ravel(np.asarray(first)).astype(float), np.ravel(np.asarray(second)).astype(float)
    if a.shape != b.shape:
        raise InputError(f"{a.size} scores for {b.size} cases, expected one score per case.")
    known = np.isfinite(a) & np.isfinite(b)
    return a[known], b[known]


def _ranks(values: np.ndarray) -> np.ndarray:
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(size) - (size - 1) / 2)[group]
