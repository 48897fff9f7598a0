"""Free numbers about each mask of a decode: what the logits already say, without another pass.

Stability is SAM's own score (Kirillov et al., 2023, section 5): the IoU of the mask at a higher and at a lower
threshold. Entropies are plain means over the pixels that either could belong to the mask.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ...segmenters.promptable import Decoded

SHAPE_FEATURES = (
    "log_area",
    "stability",
    "wide_stability",
    "entropy",
    "border_entropy",
    "confidence",
    "overlap_next",
    "overlap_after_next",
    "overlap_mean",
    "log_area_ratio",
    "compactness",
    "estimate_rank",
)
EMPTY = 1e-6
STABILITY_OFFSETS = (1.0, 4.0)
"""In logits; SAM's automatic masks use 1."""


def shape_features(decoded: Decoded) -> Float[Tensor, "prompts hypotheses features"]:
    """`SHAPE_FEATURES` of every hypothesis, on the part of the mask grid that shows the plane; all finite.

    Entropies are in bits; areas are shares of the plane; overlaps are IoUs with the other two hypotheses.
    """
    logits = _shown(decoded).float().clamp(-32, 32)
    probability, mask = torch.sigmoid(logits), logits > 0
    area = mask.flatten(2).float().mean(dim=2)
    support = probability > 0.01
    bits = _bits(probability)
    entropy = _mean_within(bits, support)
    border = _mean_within(bits, _border(mask))
    confidence = _mean_within(probability, mask)
    overlap = _overlaps(mask)
    ratio = torch.log((area + EMPTY) / (area.mean(dim=1, keepdim=True) + EMPTY))
    rank = decoded.estimates.argsort(dim=1, descending=True).argsort(dim=1).float()
    found = [
        torch.log(area + EMPTY),
        *(_stability(logits, offset) for offset in STABILITY_OFFSETS),
        entropy,
        border,
        confidence,
        overlap[0],
        overlap[1],
        (overlap[0] + overlap[1]) / 2,
        ratio,
        _compactness(mask),
        rank,
    ]
    return torch.stack(found, dim=2)


def _shown(decoded: Decoded) -> Tensor:
    rows, columns = decoded.logits.shape[-2:]
    height, width = decoded.frame.shown
    side = decoded.frame.side
    return decoded.logits[..., : -(-height * rows // side), : -(-width * columns // side)]


def _bits(p: Tensor) -> Tensor:
    p = p.clamp(1e-6, 1 - 1e-6)
    return -(p * p.log2() + (1 - p) * (1 - p).log2())


def _mean_within(values: Tensor, where: Tensor) -> Tensor:
    total = (values * where).flatten(2).sum(dim=2)
    return total / where.flatten(2).sum(dim=2).clamp(min=1)


def _border(mask: Tensor) -> Tensor:
    """Mask pixels beside others, and those beside them."""
    grown = torch.nn.functional.max_pool2d(mask.float(), 3, 1, 1)
    shrunk = -torch.nn.functional.max_pool2d(-mask.float(), 3, 1, 1)
    return grown > shrunk


def _overlaps(mask: Tensor) -> tuple[Tensor, Tensor]:
    """IoU of each hypothesis with the next and the one after it, in a circle; 1 where both are empty."""
    flat = mask.flatten(2).float()
    both = flat @ flat.transpose(1, 2)
    area = flat.sum(dim=2)
    union = area[:, :, None] + area[:, None, :] - both
    iou = torch.where(union > 0, both / union.clamp(min=1), torch.ones_like(both))
    index = torch.arange(mask.shape[1], device=mask.device)
    return iou[:, index, (index + 1) % len(index)], iou[:, index, (index + 2) % len(index)]


def _stability(logits: Tensor, offset: float) -> Tensor:
    strict, wide = ((logits > t).flatten(2).float().sum(dim=2) for t in (offset, -offset))
    return strict / wide.clamp(min=1)


def _compactness(mask: Tensor) -> Tensor:
    """4 pi area / border squared, about 1 for a disc; border pixels are counted, so small masks may exceed 1."""
    area = mask.flatten(2).float().sum(dim=2)
    border = _border(mask).flatten(2).float().sum(dim=2) / 2
    return (4 * torch.pi * area / border.clamp(min=1).square()).clamp(max=4)
