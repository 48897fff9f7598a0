"""One Dice and one binary cross-entropy per sample and class, against labels that may be soft and carry gradient.

Losses of other libraries build their targets without gradient, so a label that is being learnt would get none.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ...types import Link

SMOOTHING = 1e-5
"""Added to both sides of the Dice fraction, so that a class that is nowhere and found nowhere loses nothing."""


def one_vs_rest(
    logits: Float[Tensor, "batch classes *grid"], link: Link
) -> Float[Tensor, "batch classes *grid"]:
    """Log-odds of every class against all others: l_c = a_c - ln sum_{k != c} exp a_k, so sigmoid(l_c) = softmax_c.

    With `Link.SIGMOID` every channel is a class of its own and its logit is its log-odds. The sum leaves c out from
    the start, as log p - log(1 - p) loses its digits where p is near 1: it joins the classes before c and those after.

    Example:
        >>> odds = one_vs_rest(torch.tensor([[2.0, 1.0, 0.0]]), Link.SOFTMAX)
        >>> [round(p, 4) for p in odds.sigmoid().flatten().tolist()]
        [0.6652, 0.2447, 0.09]
    """
    if link is Link.SIGMOID:
        return logits
    # The odds do not feel a shift; near 0 the close ones among large logits keep their digits.
    shifted = logits - logits.detach().amax(1, keepdim=True)
    planes = shifted.unbind(1)
    before = list(accumulate(planes[:-1], torch.logaddexp))
    after = list(accumulate(planes[:0:-1], torch.logaddexp))[::-1]
    middle = [torch.logaddexp(b, a) for b, a in zip(before[:-1], after[1:], strict=True)]
    return shifted - torch.stack([after[0], *middle, before[-1]], dim=1)


def class_planes(labels: Int[Tensor, "batch *grid"], classes: int) -> Float[Tensor, "batch classes *grid"]:
    """One plane of 0 and 1 per foreground class 1, 2, ..., `classes`; background and unknown voxels are 0 in all.

    Example:
        >>> class_planes(torch.tensor([[0, 2, 1, -1]]), 2).tolist()
        [[[0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]]
    """
    numbers = torch.arange(1, classes + 1, device=labels.device)
    return (labels.unsqueeze(1) == numbers.reshape(-1, *[1] * (labels.dim() - 1))).float()


def class_losses(
    log_odds: Float[Tensor, "batch classes *grid"],
    target: Float[Tensor, "batch classes *grid"],
    known: Bool[Tensor, "batch *grid"],
) -> tuple[Float[Tensor, "batch classes"], Float[Tensor, "batch classes"]]:
    """Binary cross-entropy and Dice loss of every sample and class; both are differentiable in the target too.

    Args:
        log_odds: see `one_vs_rest`.
        target: in [0, 1]; above 1 the cross-entropy would have no lower bound.
        known: voxels that count.

    Returns:
        Mean over voxels of softplus(l) - y l, in nats and at least 0; and 1 - (2 sum p y + s) / (sum p + sum y + s) in
        [0, 1], p = sigmoid(l), s = `SMOOTHING`. A sample without a known voxel loses nothing.
    """
    counted = known.unsqueeze(1).to(log_odds.dtype)
    over = tuple(range(2, log_odds.dim()))
    entropy = (F.softplus(log_odds) - target * log_odds) * counted
    probability, soft = torch.sigmoid(log_odds) * counted, target * counted
    overlap = 2 * (probability * soft).sum(over) + SMOOTHING
    dice = 1 - overlap / (probability.sum(over) + soft.sum(over) + SMOOTHING)
    return entropy.sum(over) / counted.sum(over).clamp(min=1), dice
