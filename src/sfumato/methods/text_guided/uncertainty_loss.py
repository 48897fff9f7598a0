"""The SEU loss's term about the network's doubt, as published and in forms that do not reward confident errors.

Das et al., arXiv 2602.14498, add 0.1 times an entropy that is minimised: it rewards confidence, right or wrong, and
with one logit it lacks the background's half. A proper score (Gneiting and Raftery, J. Am. Stat. Assoc. 2007) in its
place is lowest in the mean for the true probability and for no other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ...errors import UnknownNameError

UncertaintyTerm = Literal["one_sided", "entropy", "entropy_where_right", "brier", "log_score"]
LOG_FLOOR = 1e-8
"""Added inside the published entropy's logarithm; half precision would make it 0, and ln of it infinite."""


def log_probability(logits: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch classes *grid"]:
    """ln of every class's probability, background first; one logit is the foreground's of two classes.

    Example:
        >>> log_probability(torch.tensor([[[0.0]]])).exp().flatten().tolist()
        [0.5, 0.5]
    """
    if logits.shape[1] == 1:
        return F.logsigmoid(torch.cat([-logits, logits], dim=1))
    return torch.log_softmax(logits, dim=1)


def _one_sided(logits: Tensor, label: Tensor) -> Tensor:
    p = log_probability(logits)[:, -logits.shape[1] :].exp()
    return -(p * (p + LOG_FLOOR).log()).sum(dim=1)


def _entropy(logits: Tensor, label: Tensor) -> Tensor:
    log_p = log_probability(logits)
    return -(log_p.exp() * log_p).sum(dim=1)


def _entropy_where_right(logits: Tensor, label: Tensor) -> Tensor:
    return torch.where(log_probability(logits).argmax(dim=1) == label, _entropy(logits, label), 0.0)


def _brier(logits: Tensor, label: Tensor) -> Tensor:
    p = log_probability(logits).exp()
    index = label.unsqueeze(1)
    return p.scatter_add(1, index, torch.full_like(index, -1.0, dtype=p.dtype)).square().sum(dim=1)


def _log_score(logits: Tensor, label: Tensor) -> Tensor:
    return -log_probability(logits).gather(1, label.unsqueeze(1))[:, 0]


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one_sided": _one_sided,
    "entropy": _entropy,
    "entropy_where_right": _entropy_where_right,
    "brier": _brier,
    "log_score": _log_score,
}
"""By name: (logits, label without -1) -> value per voxel."""


def uncertainty_loss(
    logits: Float[Tensor, "batch channels *grid"],
    label: Int[Tensor, "batch *grid"],
    term: UncertaintyTerm = "entropy",
) -> Float[Tensor, ""]:
    """The term about doubt: mean over rows of the mean over known voxels; in nats but for `brier`.

    Args:
        logits: one, or one per class.
        label: class per voxel, -1 where unknown.
        term: `one_sided` is published: - sum over the channels of p ln(p + 1e-8), where one logit's background is
            missing, so that it is highest (1/e) at p = 1/e and drives doubtful voxels to either side of it.
            `entropy` adds the background: at most ln 2, or ln of the classes. Both reward confidence in errors too.
            `entropy_where_right` is the entropy where the most probable class is the label's and 0 elsewhere: errors
            are not rewarded, yet it is no proper score either.
            `brier` is sum_c (p_c - y_c)^2 over all classes, background too, in [0, 2]; `log_score` is - ln p of the
            label. These two are proper.

    Raises:
        UnknownNameError: another term.

    Example:
        >>> z, y = torch.zeros(1, 1, 2, 2), torch.ones(1, 2, 2, dtype=torch.long)
        >>> [round(uncertainty_loss(z, y, term).item(), 6) for term in ("one_sided", "entropy", "brier")]
        [0.346574, 0.693147, 0.5]
    """
    if term not in TERMS:
        raise UnknownNameError("uncertainty term", term, TERMS)
    known = label >= 0
    over = tuple(range(1, label.dim()))
    value = torch.where(known, TERMS[term](logits, label.clamp_min(0)), 0.0)
    return (value.sum(over) / known.sum(over).clamp_min(1)).mean()
