"""Which masks are good enough to train on: keep those whose expected IoU, or its lower bound, is high enough.

Everything here takes a quality, higher = better: `Assessment.expected_iou` of the chosen mask, or `Assessment.low`
where one bad label costs more than several good ones that were left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import ConfigError, InputError


@dataclass(frozen=True)
class CoverageCurve:
    """What is kept at every threshold that makes a difference, from keeping the best masks to keeping all.

    Args:
        threshold: (n,) descending; masks with at least this quality are kept.
        coverage: (n,) share of the masks that is kept.
        iou: (n,) true mean IoU of those.
    """

    threshold: np.ndarray
    coverage: np.ndarray
    iou: np.ndarray


def keep(quality: Float[Tensor, "masks"], threshold: float) -> Bool[Tensor, "masks"]:
    """Masks that are good enough to be labels: those with at least this quality."""
    return quality >= threshold


def loss_weights(quality: Float[Tensor, "masks"], threshold: float = 0.0) -> Float[Tensor, "masks"]:
    """Weights for a loss over pseudo-labels: the quality of those that are kept, 0 for the others, mean 1.

    All are 0 where none is kept.

    Example:
        >>> loss_weights(torch.tensor([0.9, 0.6, 0.2]), 0.5).tolist()
        [1.7999999523162842, 1.2000000476837158, 0.0]
    """
    weights = quality.clamp(min=0) * keep(quality, threshold)
    total = weights.sum()
    return weights * (len(weights) / total) if total > 0 else torch.zeros_like(weights)


def annotation_order(quality: Float[Tensor, "masks"]) -> Int[Tensor, "masks"]:
    """Which masks a person should draw first: the worst first, equals in the order in which they came.

    Example:
        >>> annotation_order(torch.tensor([0.9, 0.2, 0.6])).tolist()
        [1, 2, 0]
    """
    return quality.argsort(stable=True)


def coverage_curve(quality: np.ndarray, iou: np.ndarray) -> CoverageCurve:
    """Share and true mean IoU of the kept masks over the threshold; masks of equal quality come together.

    Args:
        quality: (masks,) predicted, finite.
        iou: (masks,) true.

    Raises:
        InputError: other numbers of each, none, or some that are not finite.

    Example:
        >>> curve = coverage_curve(np.array([0.9, 0.5, 0.5]), np.array([1.0, 0.4, 0.6]))
        >>> curve.threshold.tolist(), curve.coverage.round(2).tolist(), curve.iou.round(2).tolist()
        ([0.9, 0.5], [0.33, 1.0], [1.0, 0.67])
    """
    quality, iou = np.asarray(quality, dtype=float), np.asarray(iou, dtype=float)
    if quality.shape != iou.shape or not quality.size or not np.isfinite([quality, iou]).all():
        raise InputError(
            f"{quality.size} predicted and {iou.size} true IoUs, expected as many of each, at least one, all finite."
        )
    order = np.argsort(-quality, kind="stable")
    ordered = quality[order]
    last = np.append(ordered[1:] < ordered[:-1], True)
    kept = np.arange(1, len(order) + 1)
    mean = np.cumsum(iou[order]) / kept
    return CoverageCurve(ordered[last], kept[last] / len(order), mean[last])


def threshold_for_mean_iou(quality: np.ndarray, iou: np.ndarray, wanted: float) -> float:
    """The lowest threshold whose kept masks have a true mean IoU of at least what is wanted, on calibration masks.

    It keeps the most masks that can be kept. Fit it on masks that did not calibrate the quality, and ask for a little
    more than is needed: a threshold that was picked on some masks looks better on them than on others.

    Args:
        quality: (masks,) predicted.
        iou: (masks,) true.
        wanted: in [0, 1].

    Returns:
        Plus infinity where no threshold does.

    Raises:
        ConfigError: a wanted mean outside of [0, 1].

    Example:
        >>> threshold_for_mean_iou(np.array([0.9, 0.7, 0.5]), np.array([1.0, 0.8, 0.3]), 0.9)
        0.7
    """
    if not 0 <= wanted <= 1:
        raise ConfigError(f"wanted={wanted}, expected a mean IoU from 0 to 1.")
    curve = coverage_curve(quality, iou)
    enough = np.flatnonzero(curve.iou >= wanted - 1e-12)
    return float(curve.threshold[enough[-1]]) if len(enough) else float("inf")
