"""Does a probability mean what it says?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Counts per bin of predicted probability; states add up over cases.

    Args:
        count: (bins,) int64, voxels.
        confidence: (bins,) float64, sum of the predicted probability.
        accuracy: (bins,) float64, how often the event happened.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(
            self.count + other.count, self.confidence + other.confidence, self.accuracy + other.accuracy
        )

    @property
    def ece(self) -> float:
        """Expected calibration error: sum over bins of n_b / N |accuracy - confidence|; NaN without voxels."""
        total = self.count.sum()
        return float(np.abs(self.accuracy - self.confidence).sum() / total) if total else float("nan")


def reliability(probability: np.ndarray, happened: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort voxels into equal-width bins of the predicted probability of an event.

    Args:
        probability: any shape, in [0, 1]; for ECE the largest class probability.
        happened: the same shape, true where the event happened; for ECE where the arg-max is right.
        bins: number of equal-width bins on [0, 1].

    Example:
        >>> p = np.array([0.95] * 4 + [0.55] * 2)
        >>> round(reliability(p, np.array([1, 1, 1, 0, 1, 0])).ece, 12)
        0.15
    """
    p = np.ravel(probability).astype(np.float64)
    event = np.ravel(happened).astype(np.float64)
    index = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    return Reliability(
        np.bincount(index, minlength=bins),
        np.bincount(index, weights=p, minlength=bins),
        np.bincount(index, weights=event, minlength=bins),
    )


def brier(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean over voxels of sum_c (p_c - 1[y = c])^2, in [0, 2]; probability (classes, *grid), label (*grid) >= 0."""
    chosen = np.take_along_axis(probability, label[None].astype(np.int64), axis=0)[0].astype(np.float64)
    squares = (probability.astype(np.float64) ** 2).sum(axis=0)
    return float((squares - 2 * chosen + 1).mean()) if chosen.size else float("nan")


def negative_log_likelihood(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean over voxels of -ln max(p_y, 1e-12), nats; probability (classes, *grid), label (*grid) >= 0."""
    chosen = np.take_along_axis(probability, label[None].astype(np.int64), axis=0)[0].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean()) if chosen.size else float("nan")
