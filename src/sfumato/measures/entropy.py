"""Doubt that can be read off a probability alone."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

TINY = 1e-12


def entropy(probability: Float[Tensor, "batch classes *grid"]) -> Float[Tensor, "batch *grid"]:
    """Shannon entropy -sum_c p_c ln p_c in nats, in [0, ln C].

    Example:
        >>> import torch
        >>> round(float(entropy(torch.softmax(torch.tensor([2.0, 1.0, 0.0]), 0).reshape(1, 3, 1))), 6)
        0.832396
    """
    return (-(probability * probability.clamp_min(TINY).log()).sum(dim=1)).clamp_min(0.0)


def margin(probability: Float[Tensor, "batch classes *grid"]) -> Float[Tensor, "batch *grid"]:
    """Largest minus second largest probability, in [0, 1]; low means doubtful."""
    largest, second = probability[:, 0], torch.full_like(probability[:, 0], -torch.inf)
    for entry in probability.unbind(1)[
        1:
    ]:  # a sort of each voxel's few classes would take fifteen times as long
        second = torch.maximum(second, torch.minimum(largest, entry))
        largest = torch.maximum(largest, entry)
    return largest - second


def maximum_probability_doubt(
    probability: Float[Tensor, "batch classes *grid"],
) -> Float[Tensor, "batch *grid"]:
    """1 - max_c p_c, in [0, 1 - 1/C]."""
    return 1 - probability.amax(dim=1)


def label_margin(
    probability: Float[Tensor, "batch classes *grid"], labels: Int[Tensor, "batch *grid"]
) -> Float[Tensor, "batch *grid"]:
    """Probability of a given label minus the largest of the others, 0 where another is larger; in [0, 1].

    Example:
        >>> p = torch.tensor([0.6, 0.3, 0.1]).reshape(1, 3, 1)
        >>> [round(label_margin(p, torch.tensor([[c]])).item(), 3) for c in range(3)]
        [0.3, 0.0, 0.0]
    """
    index = labels.unsqueeze(1)
    others = probability.scatter(1, index, -1.0).amax(dim=1)
    return (probability.gather(1, index)[:, 0] - others).clamp_min(0.0)


def log_doubt(
    logits: Float[Tensor, "batch classes *grid"], labels: Int[Tensor, "batch *grid"] | None = None
) -> Float[Tensor, "batch *grid"]:
    """ln(1 - p of the label), at least -20: orders voxels whose margin has long rounded to 1.

    Args:
        logits: of all classes.
        labels: that were given; the arg-max by default.

    Example:
        >>> round(log_doubt(torch.tensor([2.0, 1.0, 0.0]).reshape(1, 3, 1)).item(), 3)  # ln(0.2447 + 0.0900)
        -1.094
    """
    top = logits.argmax(dim=1, keepdim=True) if labels is None else labels.unsqueeze(1)
    others = torch.logsumexp(logits.scatter(1, top, -torch.inf), dim=1)
    return (others - torch.logsumexp(logits, dim=1)).clamp_min(-20.0)
