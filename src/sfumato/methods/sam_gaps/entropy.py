"""Entropies of probability maps in bits, and what a mixture of maps is made of.

The paper weighs every pixel's entropy with its probability of foreground. That is not concave: a mixture of maps that
disagree can have less of it than any of them. The plain mean has no such defect, so the chain of information terms is
made of that. Everything is float64, as the terms are small differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...errors import InputError

CLIP = 1e-6
"""Probabilities are kept this far from 0 and 1."""


def bits(probability: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Entropy -p log2 p - (1 - p) log2(1 - p) of a binary outcome, in [0, 1].

    Example:
        >>> round(float(bits(torch.tensor(0.9))), 6)
        0.468996
    """
    p = probability.double().clamp(CLIP, 1 - CLIP)
    return -(p * p.log2() + (1 - p) * (1 - p).log2())


def foreground_entropy(
    probability: Float[Tensor, "*batch rows columns"],
) -> Float[Tensor, "*batch"]:
    """H[p] = sum of p h(p) over the pixels / sum of p: bits per foreground pixel (UncertainSAM's reference estimators).

    Example:
        >>> half = torch.tensor([[1.0, 1.0, 0.5, 0.5]])
        >>> round(float(foreground_entropy(half)), 4)
        0.3333
    """
    p = probability.double().clamp(CLIP, 1 - CLIP)
    return (p * bits(p)).sum(dim=(-2, -1)) / p.sum(dim=(-2, -1))


def mean_entropy(
    probability: Float[Tensor, "*batch rows columns"],
    support: Bool[Tensor, "*batch rows columns"] | None = None,
) -> Float[Tensor, "*batch"]:
    """Mean bits per pixel; concave in the map, so that mixing never loses any.

    Args:
        probability: of foreground.
        support: pixels that count; None counts all. 0 where none does.

    Example:
        >>> round(float(mean_entropy(torch.tensor([[0.5, 0.5, 1.0, 0.0]]))), 4)
        0.5
    """
    found = bits(probability)
    if support is None:
        return found.mean(dim=(-2, -1))
    return (found * support).sum(dim=(-2, -1)) / support.sum(dim=(-2, -1)).clamp(min=1)


def mixture(
    weights: Float[Tensor, "*batch members"], maps: Float[Tensor, "*batch members rows columns"]
) -> Float[Tensor, "*batch rows columns"]:
    """Weighted mean of maps; weights that are all 0 count as equal.

    Raises:
        InputError: a negative weight or one that is not finite.

    Example:
        >>> maps = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
        >>> mixture(torch.tensor([3.0, 1.0]), maps).tolist()
        [[0.75, 0.0]]
    """
    if not ((weights >= 0) & weights.isfinite()).all():
        raise InputError("Weights of a mixture that are negative or not finite, expected numbers from 0.")
    total = weights.double().sum(dim=-1, keepdim=True)
    shares = torch.where(total > 0, weights / total.clamp(min=1e-300), 1 / weights.shape[-1])
    return (shares[..., None, None] * maps).sum(dim=-3)


def support_of(maps: Float[Tensor, "*batch members rows columns"], least: float = 0.01) -> Tensor:
    """(*batch, rows, columns): pixels where any of the maps is at least `least`."""
    return (maps >= least).any(dim=-3)


def information_chain(
    maps: Tensor, factors: Sequence[str], weights: Tensor | None = None, support: Tensor | None = None
) -> dict[str, Float[Tensor, "prompts"]]:
    """The mean entropy of a mixture as a sum of what each factor tells and what is left, every term >= 0:

        h[E p] = I(y; f1) + I(y; f2 | f1) + ... + E h[p]

    Args:
        maps: (*factors, prompts, rows, columns) probabilities, one leading axis per factor, such as models, prompts,
            augmentations and hypotheses.
        factors: their names, in order; the order says what each is conditioned on.
        weights: (*factors, prompts) >= 0, joint; None weighs all maps equally.
        support: (prompts, rows, columns) pixels that count; None counts all.

    Returns:
        Bits per pixel by name of the factor, then `rest`, the mean entropy of single maps, and `total`.

    Raises:
        InputError: another number of axes than names.

    Example:
        >>> certain = torch.tensor([[[[1.0, 1.0]]], [[[1.0, 0.0]]]])
        >>> {name: round(float(v), 3) for name, v in information_chain(certain, ("models",)).items()}
        {'models': 0.5, 'rest': 0.0, 'total': 0.5}
    """
    if maps.ndim != len(factors) + 3:
        raise InputError(
            f"Maps with {maps.ndim} axes for factors {', '.join(factors)}, expected one axis per factor, then "
            "prompts, rows and columns."
        )
    maps = maps.double()
    joint = torch.ones(maps.shape[:-2], dtype=maps.dtype) if weights is None else weights.to(maps)
    joint = joint / joint.sum(dim=tuple(range(len(factors))), keepdim=True)
    levels = [_entropy_given(maps, joint, known, support) for known in range(len(factors) + 1)]
    told = {name: levels[i] - levels[i + 1] for i, name in enumerate(factors)}
    return told | {"rest": levels[-1], "total": levels[0]}


def _entropy_given(maps: Tensor, joint: Tensor, known: int, support: Tensor | None) -> Tensor:
    """(prompts,): mean entropy of the mixture over all factors but the first `known`, averaged over those."""
    unknown = tuple(range(known, joint.ndim - 1))
    if not unknown:
        share, mixed = joint, maps
    else:
        share = joint.sum(dim=unknown)
        mixed = (joint[..., None, None] * maps).sum(dim=unknown) / share[..., None, None].clamp(min=1e-300)
    # Where a factor's value has no weight its mixture is empty, and so is its say.
    found = share * mean_entropy(mixed, None if support is None else support.expand(mixed.shape))
    return found.sum(dim=tuple(range(known))) if known else found


def mixture_weights(
    expected: Float[Tensor, "prompts hypotheses"],
) -> Float[Tensor, "prompts hypotheses"]:
    """Shares of the hypotheses: expected IoUs divided by their sum (paper, section 2, there of SAM's estimates).

    Where nothing is expected of any hypothesis they are equal.

    Example:
        >>> mixture_weights(torch.tensor([[0.75, 0.5, 0.25], [0.0, 0.0, 0.0]]))[0].tolist()
        [0.5, 0.3333333432674408, 0.1666666716337204]
    """
    total = expected.sum(dim=1, keepdim=True)
    even = torch.full_like(expected, 1 / expected.shape[1])
    return torch.where(total > 0, expected / total.clamp(min=torch.finfo(expected.dtype).tiny), even)
