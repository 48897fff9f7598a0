"""From a voxel map to one score per case.

Scores are functions of four sums, so a case can be scored while its map is computed piece by piece.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..types import Kind


def region_sums(
    value: Float[Tensor, "batch *grid"], labels: Int[Tensor, "batch *grid"]
) -> Float[Tensor, "batch 4"]:
    """Sum of the map in and outside the predicted foreground, and the voxels there; float64.

    The sums of two pieces of a grid add up to the sums of the whole.
    """
    foreground = (labels > 0).flatten(1)
    flat = value.flatten(1).double()
    inside = (flat * foreground).sum(1)
    count = foreground.sum(1).double()
    return torch.stack([inside, flat.sum(1) - inside, count, flat.shape[1] - count], dim=1)


def score_from_sums(kind: Kind, sums: Float[Tensor, "batch 4"]) -> Float[Tensor, "batch"]:
    """The case score of a map from its `region_sums`.

    Expected 1 - Dice for `Kind.ERROR`, see `expected_dice_loss`; the mean over the predicted foreground for
    the others, or over everything where nothing was predicted.
    """
    inside, outside, count, rest = sums.unbind(1)
    if kind is Kind.ERROR:
        wrong = inside + outside
        ratio = wrong / (2 * (count - inside) + wrong).clamp_min(1e-12)
        return torch.where(count > 0, ratio, -torch.expm1(-outside)).float()
    return torch.where(count > 0, inside / count.clamp_min(1), outside / rest.clamp_min(1)).float()


def expected_dice_loss(
    error: Float[Tensor, "batch *grid"], labels: Int[Tensor, "batch *grid"]
) -> Float[Tensor, "batch"]:
    """Expected 1 - Dice of the foreground from a map of each voxel's probability of being wrong.

    With F the predicted foreground: false positives FP = sum of the error in F, misses FN = sum outside F,
    hits TP = sum of (1 - error) in F; the score is (FP + FN) / (2 TP + FP + FN), in [0, 1]: the ratio of
    expectations, which the expectation of the ratio tends to as F grows. An empty prediction loses everything
    as soon as one voxel was missed, so it scores 1 - exp(-FN), the Poisson probability of that.

    Example:
        >>> e = torch.tensor([[0.5, 0.5, 0.0, 0.0]])
        >>> round(expected_dice_loss(e, torch.tensor([[1, 1, 0, 0]])).item(), 6)
        0.333333
    """
    return score_from_sums(Kind.ERROR, region_sums(error, labels))


def case_score(
    kind: Kind, value: Float[Tensor, "batch *grid"], labels: Int[Tensor, "batch *grid"]
) -> Float[Tensor, "batch"]:
    """The case score of a whole map, see `score_from_sums`."""
    return score_from_sums(kind, region_sums(value, labels))
