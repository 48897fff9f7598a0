"""Intervals from a bootstrap over patients, never over voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean over cases with its percentile interval; NaN entries were left out and counted."""

    value: float
    low: float
    high: float
    count: int
    undefined: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> Interval:
    """Mean over cases, with an interval from resampling patients with replacement.

    Args:
        values: one per case; NaN where undefined.
        patients: of each case.
        seed: of the resampling.
        resamples: how many.
        level: of the interval.
    """
    table = np.asarray(values, dtype=float)
    known = np.isfinite(table)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0, int((~known).sum()))
    _, owner = np.unique(np.asarray(patients)[known], return_inverse=True)
    total, size = np.bincount(owner, weights=table[known]), np.bincount(owner)
    draws = np.random.default_rng(seed).integers(len(total), size=(resamples, len(total)))
    means = total[draws].sum(1) / size[draws].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(
        float(table[known].mean()), float(low), float(high), int(known.sum()), int((~known).sum())
    )
