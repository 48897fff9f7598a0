"""The losses of the head, each on the voxels that count, as flat vectors (spec 5)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from .config import PerturbationHeadConfig
from .head import HeadMaps

TINY = 1e-12


def standardise(score: Float[Tensor, "voxels"]) -> Float[Tensor, "voxels"]:
    """(u - mean u) / (std u + 1e-6) over all voxels of the batch, population std, gradients flow through both."""
    centred = score - score.mean()
    # The floor is far below 1e-6; it keeps the gradient of the root finite for a constant score.
    return centred / (centred.square().mean().clamp_min(1e-24).sqrt() + 1e-6)


def weighted_mean(value: Tensor, weights: Tensor | None) -> Tensor:
    """Mean over voxels; with weights, each voxel stands for that many."""
    return value.mean() if weights is None else (value * weights).sum() / weights.sum()


def likelihood(
    logits: Float[Tensor, "classes voxels"],
    temperature: Float[Tensor, "voxels"],
    label: Int[Tensor, "voxels"],
    weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Mean of -ln max(p~_y, 1e-12) of the tempered probability."""
    log_probability = torch.log_softmax(logits / temperature, dim=0).gather(0, label[None])[0]
    return weighted_mean(-log_probability.clamp_min(torch.tensor(TINY).log().item()), weights)


def error_correlation(score: Tensor, wrong: Bool[Tensor, "voxels"], tau: float = 1.0) -> Float[Tensor, ""]:
    """Mean binary cross-entropy of sigmoid(u^ / tau) against being wrong."""
    return F.binary_cross_entropy_with_logits(standardise(score) / tau, wrong.to(score.dtype))


def pairwise(
    score: Tensor,
    wrong: Bool[Tensor, "voxels"],
    generator: torch.Generator,
    pairs: int = 65536,
    margin: float = 0.0,
    tau: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean softplus((u^_right - u^_wrong + margin) / tau) over random pairs, drawn with replacement.

    min(pairs, P Q) pairs of the P wrong and Q right voxels; 0 without one of either.
    """
    scaled = standardise(score)
    positive, negative = scaled[wrong], scaled[~wrong]
    count = min(pairs, positive.numel() * negative.numel())  # Python integers: P Q may exceed 2^31
    if count == 0:
        return score.sum() * 0.0
    first = torch.randint(positive.numel(), (count,), generator=generator).to(score.device)
    second = torch.randint(negative.numel(), (count,), generator=generator).to(score.device)
    return F.softplus((negative[second] - positive[first] + margin) / tau).mean()


def tail(score: Tensor, wrong: Bool[Tensor, "voxels"], temperature: float = 0.25) -> Float[Tensor, ""]:
    """Soft error rate of the most trusted voxels: sum of softmax(-u / temperature) over the wrong ones, in [0, 1]."""
    return (torch.softmax(-score / temperature, dim=0) * wrong.to(score.dtype)).sum()


def trust(
    logits: Float[Tensor, "classes voxels"],
    delta: Float[Tensor, "classes voxels"],
    weights: Tensor | None = None,
) -> Float[Tensor, ""]:
    """Mean Delta^2 + mean (softmax(z + Delta) - p)^2 / 4, both over classes and voxels."""
    shift = torch.softmax(logits + delta, dim=0) - torch.softmax(logits, dim=0)
    return weighted_mean((delta.square() + 0.25 * shift.square()).mean(dim=0), weights)


def anchor_distance(score: Tensor, anchor: Tensor) -> Float[Tensor, ""]:
    """Smooth L1 between the standardised score and the standardised, detached anchor."""
    return F.smooth_l1_loss(standardise(score), standardise(anchor.detach()))


def confident_energy(residual: Tensor, weight: Tensor, weights: Tensor | None = None) -> Float[Tensor, ""]:
    """Mean of (1 - w) res, w detached: energy costs where the segmenter is sure."""
    return weighted_mean((1 - weight.detach()) * residual, weights)


def plain_error(
    score: Tensor, wrong: Bool[Tensor, "voxels"], logistic: Float[Tensor, "2"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of sigmoid(gain u + shift), the score as it is, against being wrong."""
    return F.binary_cross_entropy_with_logits(logistic[0] * score + logistic[1], wrong.to(score.dtype))


def head_losses(
    maps: HeadMaps,
    logits: Float[Tensor, "1 classes voxels"],
    label: Int[Tensor, "voxels"],
    config: PerturbationHeadConfig,
    generator: torch.Generator,
    logistic: Tensor | None = None,
    weights: Float[Tensor, "voxels"] | None = None,
) -> dict[str, Tensor]:
    """All losses by name, unweighted, and `total`, their weighted sum; a weight of 0 leaves its loss out.

    Args:
        maps: of one row of voxels that all count.
        logits: full logits of these voxels.
        label: their classes, none of them -1.
        config: the weights.
        generator: draws the pairs.
        logistic: gain and shift of the plain loss.
        weights: how many voxels each stands for; the ranking losses take them as they come.
    """
    z, score = logits[0].to(maps.ranking.dtype), maps.ranking[0]
    wrong = z.argmax(dim=0) != label  # from the untempered logits
    terms = {
        "likelihood": lambda: likelihood(z, maps.temperature[0], label, weights),
        "correlation": lambda: error_correlation(score, wrong, config.tau),
        "pairwise": lambda: pairwise(score, wrong, generator, config.pairs, config.pair_margin, config.tau),
        "tail": lambda: tail(score, wrong, config.tail_temperature),
        "trust": lambda: trust(z, maps.delta[0], weights),
        "anchor": lambda: anchor_distance(score, maps.anchor[0]),
        "energy": lambda: confident_energy(maps.residual[0], maps.weight[0], weights),
    }
    if logistic is not None:
        terms["plain"] = lambda: plain_error(score, wrong, logistic)
    found = {name: term() for name, term in terms.items() if getattr(config, name) > 0}
    total = sum((getattr(config, name) * value for name, value in found.items()), start=score.sum() * 0.0)
    return {"total": total, **found}
