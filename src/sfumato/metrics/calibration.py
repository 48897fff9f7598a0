"""Does a probability mean what it says?

Plain functions for voxels that fit into memory. `CalibrationState` gives the same numbers for any number of voxels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15
LEAST_PROBABILITY = 1e-12
"""A smaller probability counts as this one in a likelihood, which is then finite."""


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

    @property
    def mean_confidence(self) -> np.ndarray:
        """(bins,) mean predicted probability, in [0, 1]; NaN in an empty bin."""
        return self._mean(self.confidence)

    @property
    def mean_accuracy(self) -> np.ndarray:
        """(bins,) share of voxels where the event happened, in [0, 1]; NaN in an empty bin."""
        return self._mean(self.accuracy)

    def _mean(self, total: np.ndarray) -> np.ndarray:
        return np.divide(total, self.count, out=np.full(len(total), np.nan), where=self.count > 0)


def reliability(probability: np.ndarray, happened: np.ndarray, bins: int = BINS) -> Reliability:
    """Sort voxels into equal-width bins of the predicted probability of an event.

    Bin i holds i / bins <= p < (i + 1) / bins, and the last one p = 1 too.

    Args:
        probability: any shape, in [0, 1]; for ECE the largest class probability.
        happened: the same shape, true where the event happened; for ECE where the arg-max is right.
        bins: number of equal-width bins on [0, 1].

    Example:
        >>> p = np.array([0.95] * 4 + [0.55] * 2)
        >>> round(reliability(p, np.array([1, 1, 1, 0, 1, 0])).ece, 12)
        0.15
    """
    p = np.ravel(np.asarray(probability)).astype(np.float64)
    event = np.ravel(np.asarray(happened)).astype(np.float64)
    index = np.clip((p * bins).astype(np.int64), 0, bins - 1)
    return Reliability(
        np.bincount(index, minlength=bins),
        np.bincount(index, weights=p, minlength=bins),
        np.bincount(index, weights=event, minlength=bins),
    )


def brier(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean over voxels of sum_c (p_c - 1[y = c])^2, in [0, 2]; NaN without voxels (Brier, 1950).

    Args:
        probability: (classes, *grid).
        label: (*grid) class numbers >= 0.

    Example:
        >>> round(brier(np.array([[0.8], [0.2]]), np.array([0])), 12)
        0.08
    """
    table = np.asarray(probability)
    chosen = _of_label(table, label)
    squares = (table.astype(np.float64) ** 2).sum(axis=0)
    return float((squares - 2 * chosen + 1).mean()) if chosen.size else float("nan")


def negative_log_likelihood(probability: np.ndarray, label: np.ndarray) -> float:
    """Mean over voxels of -ln max(p_y, 1e-12), nats, in [0, 27.7]; NaN without voxels.

    Args:
        probability: (classes, *grid).
        label: (*grid) class numbers >= 0.

    Example:
        >>> round(negative_log_likelihood(np.array([[0.5], [0.5]]), np.array([0])), 6)
        0.693147
    """
    chosen = _of_label(np.asarray(probability), label)
    return float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).mean()) if chosen.size else float("nan")


def _of_label(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    index = np.asarray(label)[None].astype(np.int64)
    return np.take_along_axis(probability, index, axis=0)[0].astype(np.float64)
