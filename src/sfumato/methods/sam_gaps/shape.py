"""Free numbers about each mask of a decode: what the logits already say, without another pass.

They are read at a grid of points over the box of everything that may belong to a hypothesis, so that a small object is
seen as finely as a large one and the cost stays a hundredth of a decode. Stability is SAM's own score (Kirillov et
al., 2023, section 5): the IoU of the mask at a higher and at a lower threshold.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from ...segmenters.promptable import Decoded
from .mask_grid import pairwise_iou, shown_cells

SHAPE_FEATURES = (
    "log_area",
    "share_of_box",
    "log_box_aspect",
    "stability",
    "wide_stability",
    "entropy",
    "foreground_entropy",
    "confidence",
    "border",
    "overlap_next",
    "overlap_after_next",
    "log_area_ratio",
    "estimate_rank",
    "mixture_entropy",
)
POINTS = 48
"""Per side of the grid."""
POSSIBLE = -4.0
"""Logits above this may belong to a mask: a probability of 0.018."""
STABILITY_OFFSETS = (1.0, 4.0)
"""In logits; SAM's automatic masks use 1."""
LEAST = 1e-6


def shape_features(decoded: Decoded) -> Float[Tensor, "prompts hypotheses features"]:
    """`SHAPE_FEATURES` of every hypothesis, all finite.

    Areas are shares of the plane, entropies in bits, overlaps IoUs with the other two hypotheses, the border's length
    in grid points beside that of a square of the same area. `mixture_entropy` is that of the mean of the hypotheses,
    where any is possible, and the same for all three.
    """
    logits, box_share, aspect = _over_box(decoded)
    x = logits.flatten(2)
    probability, mask = torch.sigmoid(x), (x > 0).float()
    inside = mask.mean(dim=2)
    area = inside * box_share[:, None]
    bits = _bits(probability, x)
    overlap = _overlaps(logits > 0)
    mean = probability.mean(dim=1)
    mixed = _bits(mean, torch.logit(mean, LEAST)).mean(dim=1)
    found = [
        torch.log(area + LEAST),
        inside,
        aspect[:, None].expand_as(area),
        *(stability_score(logits, offset) for offset in STABILITY_OFFSETS),
        bits.mean(dim=2),
        (probability * bits).sum(dim=2) / probability.sum(dim=2).clamp(min=LEAST),
        (probability * mask).sum(dim=2) / mask.sum(dim=2).clamp(min=1),
        _border(logits > 0) / (4 * mask.sum(dim=2).sqrt()).clamp(min=1),
        *overlap,
        torch.log((area + LEAST) / (area.mean(dim=1, keepdim=True) + LEAST)),
        decoded.estimates.argsort(dim=1, descending=True).argsort(dim=1).float(),
        mixed[:, None].expand_as(area),
    ]
    return torch.stack(found, dim=2)


def _over_box(decoded: Decoded) -> tuple[Tensor, Tensor, Tensor]:
    """Logits at the grid over each prompt's box, the box's share of the plane, and the logarithm of its aspect."""
    shown = shown_cells(decoded.logits, decoded.frame).float()
    possible = shown.amax(dim=1) > POSSIBLE
    at_rows, tall = _grid(possible.any(dim=2))
    at_columns, wide = _grid(possible.any(dim=1))
    prompts = torch.arange(len(shown), device=shown.device)[:, None, None, None]
    hypotheses = torch.arange(shown.shape[1], device=shown.device)[None, :, None, None]
    grid = shown[prompts, hypotheses, at_rows[:, None, :, None], at_columns[:, None, None, :]]
    share = tall * wide / (shown.shape[2] * shown.shape[3])
    return grid.clamp(-32, 32), share, torch.log(tall / wide)


def _grid(possible: Tensor) -> tuple[Tensor, Tensor]:
    """(prompts, points) places along one side, and the side's length; the whole side where nothing is possible."""
    count = possible.shape[1]
    first = possible.float().argmax(dim=1)
    last = count - 1 - possible.flip(1).float().argmax(dim=1)
    length = (last - first + 1).float()
    step = (torch.arange(POINTS, device=possible.device) + 0.5) / POINTS
    return (first[:, None] + (step * length[:, None]).long()).clamp(max=count - 1), length


def _bits(probability: Tensor, logits: Tensor) -> Tensor:
    """Binary entropy, from logits so that it needs no clipping."""
    return (F.softplus(logits) - probability * logits) / torch.log(torch.tensor(2.0))


def _overlaps(mask: Bool[Tensor, "prompts hypotheses rows columns"]) -> tuple[Tensor, Tensor]:
    """IoU of each hypothesis with the next and the one after it, in a circle; 1 where both are empty."""
    iou = pairwise_iou(mask, mask)
    index = torch.arange(mask.shape[1], device=mask.device)
    return iou[:, index, (index + 1) % len(index)], iou[:, index, (index + 2) % len(index)]


def stability_score(
    logits: Float[Tensor, "*masks rows columns"], offset: float = 1.0
) -> Float[Tensor, "*masks"]:
    """Area above +offset divided by area above -offset, in [0, 1]; 0 for an empty mask (Kirillov et al., 2023).

    Args:
        logits: of masks.
        offset: in logits, >= 0; SAM's automatic masks take 1, SAM 2's choice of the single mask 0.05.

    Example:
        >>> stability_score(torch.tensor([[3.0, 0.5, -0.5, -3.0]])).item()
        0.3333333432674408
    """
    strict, wide = ((logits > t).sum(dim=(-2, -1)) for t in (offset, -offset))
    return strict / wide.clamp(min=1)


def _border(mask: Tensor) -> Tensor:
    """Pairs of neighbouring points on either side of the mask's border."""
    down = (mask[..., 1:, :] ^ mask[..., :-1, :]).flatten(2).sum(dim=2)
    across = (mask[..., 1:] ^ mask[..., :-1]).flatten(2).sum(dim=2)
    return (down + across).float()
