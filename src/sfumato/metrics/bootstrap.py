"""Intervals from a bootstrap over patients, never over voxels (Efron and Tibshirani, 1993)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, InputError

RESAMPLES = 2000
METHODS = ("percentile", "bca")


@dataclass(frozen=True)
class Interval:
    """A value with its interval; entries that are not finite were left out and counted.

    Args:
        value: of all that is defined.
        low: end of the interval.
        high: end of the interval.
        count: entries used: cases, or resamples.
        undefined: entries left out.
    """

    value: float
    low: float
    high: float
    count: int
    undefined: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


def resample_weights(patients: int, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """How often each resample holds each patient (resamples, patients) int64; rows sum to `patients`.

    One table serves all methods and metrics that are compared, which makes their resamples paired.

    Raises:
        ConfigError: no patient or no resample.

    Example:
        >>> resample_weights(3, 2, seed=1).sum(1).tolist()
        [3, 3]
    """
    if patients < 1 or resamples < 1:
        raise ConfigError(f"{resamples} resamples of {patients} patients, expected at least one of each.")
    draws = np.random.default_rng(seed).integers(patients, size=(resamples, patients))
    cells = draws + np.arange(resamples)[:, None] * patients
    return np.bincount(cells.ravel(), minlength=resamples * patients).reshape(resamples, patients)


def bootstrap_mean(
    values: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    method: str = "percentile",
) -> Interval:
    """Mean over cases, with an interval from resampling patients with replacement.

    Args:
        values: one per case; NaN where undefined.
        patients: of each case.
        seed: of the resampling.
        resamples: how many.
        level: of the interval.
        method: `percentile`, or `bca` for bias-corrected and accelerated, with a jackknife over patients.

    Returns:
        NaN where no case is defined. One patient alone gives an interval without width: it says nothing.

    Raises:
        InputError: not one patient per value.
        ConfigError: no such method.

    Example:
        >>> result = bootstrap_mean([0.0, 1.0, float("nan")], ["a", "b", "c"])
        >>> result.value, result.low, result.high, result.count, result.undefined
        (0.5, 0.0, 1.0, 2, 1)
    """
    table = np.asarray(values, dtype=float)
    if len(table) != len(patients):
        raise InputError(f"{len(table)} values and {len(patients)} patients, expected one patient per value.")
    if method not in METHODS:
        raise ConfigError(f"Bootstrap {method!r} is not known, expected one of {', '.join(METHODS)}.")
    known = np.isfinite(table)
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0, int((~known).sum()))
    names, defined = np.asarray(patients)[known], table[known]
    # In one order of cases, so that not even rounding depends on theirs.
    order = np.lexsort((defined, names))
    names, defined = names[order], defined[order]
    _, owner = np.unique(names, return_inverse=True)
    total, size = np.bincount(owner, weights=defined), np.bincount(owner)
    weights = resample_weights(len(total), resamples, seed)
    means, value = (weights @ total) / (weights @ size), float(defined.mean())
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "bca" and len(total) > 1 and np.ptp(means) > 0:
        without = (total.sum() - total) / (size.sum() - size)
        tails = bca_levels(means, value, without, tails)
    low, high = np.quantile(means, tails)
    return Interval(value, float(low), float(high), int(known.sum()), int((~known).sum()))


def bootstrap_difference(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    patients: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    method: str = "percentile",
) -> Interval:
    """Mean over cases of first - second, paired; a case where either is undefined is left out.

    Arguments as for `bootstrap_mean`.

    Example:
        >>> bootstrap_difference([0.9, 0.8], [0.8, 0.7], ["a", "b"]).excludes_zero
        True
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise InputError(f"{a.size} values and {b.size}, expected pairs.")
    return bootstrap_mean(a - b, patients, seed, resamples, level, method)


def bca_levels(resampled: np.ndarray, value: float, without: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """Quantiles of the resampled values that make the BCa interval (Efron, 1987).

    With Phi the normal distribution, bias z0 = Phi^-1(P(resampled < value) + P(=) / 2) and acceleration
    a = sum d^3 / (6 (sum d^2)^1.5), d the mean of the jackknife less its values: Phi(z0 + z / (1 - a z)) at
    z = z0 + Phi^-1(tail).

    Args:
        resampled: (resamples,) finite, not all equal.
        value: of all patients.
        without: (patients,) values that leave one patient out.
        tails: (n,) wanted, such as 0.025 and 0.975.
    """
    from scipy.special import ndtr, ndtri

    slack = 1e-12 * max(abs(value), float(np.abs(resampled).max()))  # equal but for rounding is equal
    share = (np.mean(resampled < value - slack) + np.mean(resampled <= value + slack)) / 2
    # A value outside all resamples would ask for an infinite shift; half a resample is the finest that can be told.
    edge = 0.5 / len(resampled)
    bias = ndtri(np.clip(share, edge, 1 - edge))
    spread = without.mean() - without
    scale = (spread**2).sum() ** 1.5
    acceleration = (spread**3).sum() / (6 * scale) if scale else 0.0
    z = bias + ndtri(tails)
    return np.asarray(ndtr(bias + z / (1 - acceleration * z)))


def resampled_interval(value: float, resampled: np.ndarray, level: float = 0.95) -> Interval:
    """Percentile interval from values of resamples; those that are not finite are left out and counted.

    Example:
        >>> resampled_interval(0.5, np.array([0.0, 1.0, np.nan])).undefined
        1
    """
    known = resampled[np.isfinite(resampled)]
    nan, lost = float("nan"), int(resampled.size - known.size)
    if not known.size:
        return Interval(value, nan, nan, 0, lost)
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), int(known.size), lost)
