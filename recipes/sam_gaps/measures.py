"""Correlation and calibration with intervals from resampling groups, the same resamples for every score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sfumato.metrics.bootstrap import Interval, resample_weights, resampled_interval
from sfumato.metrics.calibration import reliability

RESAMPLES = 1000


def pearson(score: np.ndarray, iou: np.ndarray, weight: np.ndarray) -> float:
    """Weighted correlation; NaN where one of them does not vary."""
    total = weight.sum()
    x, y = score - (weight @ score) / total, iou - (weight @ iou) / total
    spread = np.sqrt((weight @ (x * x)) * (weight @ (y * y)))
    return float((weight @ (x * y)) / spread) if spread > 0 else float("nan")


def ece(probability: np.ndarray, happened: np.ndarray, weight: np.ndarray) -> float:
    """Weighted expected calibration error in fifteen bins of equal width."""
    bins = np.minimum((probability * 15).astype(int), 14)
    gap = np.bincount(bins, weight * (probability - happened), 15)
    return float(np.abs(gap).sum() / weight.sum())


def with_interval(
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray], float],
    first: np.ndarray,
    second: np.ndarray,
    groups: Sequence[str],
) -> Interval:
    """A measure of pairs; pairs that are not finite are left out."""
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3:
        return Interval(*[float("nan")] * 3, 0, len(known))
    one, two = first[known].astype(float), second[known].astype(float)
    names, owner = np.unique(np.asarray(groups)[known], return_inverse=True)
    weights = resample_weights(len(names), RESAMPLES, 0)[:, owner].astype(float)
    resampled = np.array([measure(one, two, weight) for weight in weights])
    return resampled_interval(measure(one, two, np.ones(len(one))), resampled)


def check_ece(probability: np.ndarray, happened: np.ndarray) -> None:
    """The weighted form with equal weights is the product's own."""
    own = reliability(probability, happened.astype(bool)).ece
    assert abs(ece(probability, happened, np.ones(len(happened))) - own) < 1e-9


def text(found: Interval) -> str:
    """Value and interval for a table."""
    return "–" if np.isnan(found.value) else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"
