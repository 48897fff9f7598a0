"""What may be the truth about one prompt: several masks, each with its share of belief, on the network's mask grid.

The grid is coarse (a quarter of the network's input), which is as fine as the network itself answers; whatever the
plane's size, looking ahead over many masks stays cheap.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...errors import InputError
from ...segmenters.promptable import Decoded
from .entropy import bits
from .mask_grid import pairwise_iou, shown_cells

SHARPNESS = 4.0
"""Weights are raised to this power: an expected IoU of 0.9 gets five times the share of one of 0.6."""
LEVELS = (0.25, 0.75)
"""Where the mixture of all masks is cut, for truths that lie between the hypotheses."""
LEVEL_SHARE = 0.25
"""Share of all belief that these cuts get."""


@dataclass(frozen=True)
class Belief:
    """Masks that may be the truth, and how probable each is.

    Args:
        masks: on the part of the mask grid that shows the plane.
        shares: >= 0, their sum is 1.
    """

    masks: Bool[Tensor, "masks rows columns"]
    shares: Float[Tensor, "masks"]

    def foreground(self) -> Float[Tensor, "rows columns"]:
        """Probability that a cell is in the object."""
        return torch.einsum("m,mrc->rc", self.shares, self.masks.float())

    def entropy(self) -> Float[Tensor, "rows columns"]:
        """Bits per cell."""
        return bits(self.foreground()).float()

    def expected_iou(self, masks: Bool[Tensor, "several rows columns"]) -> Float[Tensor, "several"]:
        """Expected IoU of some masks with the truth.

        Example:
            >>> masks = torch.tensor([[[True, True, False]], [[True, False, False]]])
            >>> Belief(masks, torch.tensor([0.5, 0.5])).expected_iou(masks).tolist()
            [0.75, 0.75]
        """
        return pairwise_iou(masks, self.masks) @ self.shares


def belief_of(
    logits: Float[Tensor, "hypotheses rows columns"], weights: Float[Tensor, "hypotheses"]
) -> Belief:
    """The hypotheses of one prompt, and cuts of their mixture.

    Args:
        logits: of the hypotheses, on the part of the grid that shows the plane.
        weights: >= 0, such as calibrated expected IoUs; equal if all are 0.

    Example:
        >>> belief = belief_of(torch.tensor([[[9.0, 9.0]], [[9.0, -9.0]]]), torch.tensor([0.8, 0.8]))
        >>> belief.shares.tolist(), belief.foreground().tolist()
        ([0.375, 0.375, 0.125, 0.125], [[1.0, 0.5]])
    """
    sharp = weights.float().clamp(min=0) ** SHARPNESS
    sharp = sharp / sharp.sum() if sharp.sum() > 0 else torch.full_like(sharp, 1 / len(sharp))
    maps = torch.sigmoid(logits.float().clamp(-32, 32))
    mixed = torch.einsum("h,hrc->rc", sharp, maps)
    cuts = torch.stack([mixed > level for level in LEVELS])
    shares = torch.cat(
        [(1 - LEVEL_SHARE) * sharp, torch.full((len(cuts),), LEVEL_SHARE / len(cuts)).to(sharp)]
    )
    return Belief(torch.cat([logits > 0, cuts]), shares)


def beliefs(decoded: Decoded, weights: Float[Tensor, "prompts hypotheses"]) -> list[Belief]:
    """One belief per prompt.

    Args:
        decoded: one row per prompt.
        weights: of the hypotheses, such as `Assessment.expected_iou`.

    Raises:
        InputError: weights of another shape, or some that are not finite.
    """
    if weights.shape != decoded.estimates.shape or not weights.isfinite().all():
        raise InputError(
            f"Weights {tuple(weights.shape)} of hypotheses {tuple(decoded.estimates.shape)}, expected one finite "
            "weight each."
        )
    logits = shown_cells(decoded.logits, decoded.frame)
    return [belief_of(row, weight) for row, weight in zip(logits, weights.to(logits.device), strict=True)]
