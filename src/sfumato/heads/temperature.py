"""A global temperature: the one number that recalibrates a softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

TEMPERATURES = (0.05, 20.0)
"""A separable set has its optimum at 0 or infinity; the search stays between these."""


def fit_temperature(
    logits: Sequence[Float[Tensor, "classes _"]],
    labels: Sequence[Int[Tensor, "_"]],
    steps: int = 60,
) -> float:
    """The T0 whose softmax(z / T0) has the smallest negative log-likelihood.

    The likelihood is convex in 1/T0; Newton's method there, kept inside a shrinking bracket, in float64.

    Args:
        logits: per case.
        labels: per case, no -1 among them.
        steps: most Newton steps.

    Example:
        >>> z = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
        >>> round(fit_temperature([z], [torch.tensor([0, 0, 0, 1])]), 4)  # 2 / ln 3
        1.8205
    """
    low, high = 1 / TEMPERATURES[1], 1 / TEMPERATURES[0]
    beta = 1.0
    for _ in range(steps):
        slope, curvature = 0.0, 0.0
        for z, y in zip(logits, labels, strict=True):
            first, second = _likelihood_derivatives(z, y, beta)
            slope, curvature = slope + first, curvature + second
        if slope > 0:
            high = beta
        else:
            low = beta
        following = beta - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = (low * high) ** 0.5
        if abs(following - beta) < 1e-7 * beta:
            break
        beta = following
    return 1 / beta


def _likelihood_derivatives(logits: Tensor, label: Tensor, beta: float) -> tuple[float, float]:
    first, second = 0.0, 0.0
    for z, y in zip(logits.split(1 << 18, dim=1), label.split(1 << 18), strict=True):
        z = z.double()
        probability = torch.softmax(beta * z, dim=0)
        mean = (probability * z).sum(dim=0)
        first += float((mean - z.gather(0, y[None])[0]).sum())
        second += float((probability * (z - mean).square()).sum())
    return first, second
