"""Training a segmentation network: Dice plus cross-entropy, deep supervision where the network has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import MissingExtraError
from ..metrics.overlap import dice_per_class
from ..types import Batch, Link
from .loop import StepLoss, Validation
from .samples import Sample


def segmentation_loss(link: Link, spatial_dims: int) -> StepLoss:
    """Soft Dice (batch-wise, without background) plus cross-entropy, both MONAI's.

    Networks with deep supervision return (batch, heads, classes, *grid) or a list; head k weighs 2^-k.

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    try:
        from monai.losses import DiceCELoss
    except ImportError as error:
        raise MissingExtraError("monai", "train", "training a backbone") from error
    softmax = link is Link.SOFTMAX
    criterion = DiceCELoss(
        include_background=not softmax, to_onehot_y=softmax, softmax=softmax, sigmoid=not softmax, batch=True
    )

    def loss(module: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        assert batch.label is not None
        heads = supervised_heads(module(batch.image), spatial_dims)
        weights = [2.0**-k for k in range(len(heads))]
        target = batch.label.unsqueeze(1).float()
        total = sum(
            w * criterion(resize_logits(h, target).float(), target)
            for w, h in zip(weights, heads, strict=True)
        )
        return {"total": torch.as_tensor(total) / sum(weights)}

    return loss


def supervised_heads(output: Tensor | list[Tensor] | tuple[Tensor, ...], spatial_dims: int) -> list[Tensor]:
    """Logits of every head of deep supervision, finest first; one where the network has but one."""
    if isinstance(output, list | tuple):
        return list(output)
    return list(output.unbind(1)) if output.dim() == spatial_dims + 3 else [output]


def resize_logits(head: Tensor, target: Tensor) -> Tensor:
    """Logits on the grid of `target`, linearly; as they are where they are on it already."""
    if head.shape[2:] == target.shape[2:]:
        return head
    mode = "bilinear" if head.dim() == 4 else "trilinear"
    return F.interpolate(head, size=target.shape[2:], mode=mode, align_corners=False)


def dice_validation(
    samples: Sequence[Sample],
    segment: Callable[[nn.Module, np.ndarray], np.ndarray],
    class_names: Sequence[str],
) -> Validation:
    """Dice per foreground class over whole cases, and the mean over classes as the score.

    A class that a case neither has nor was given does not count there; the score is NaN where that is all.

    Args:
        samples: prepared validation cases.
        segment: (module, image (channels, *grid)) -> class numbers (*grid).
        class_names: background first.
    """

    def validate(module: nn.Module) -> Mapping[str, float]:
        rows = [dice_per_class(segment(module, s.image), s.label, len(class_names)) for s in samples]
        table = np.array(rows)
        means = {
            n: np.nanmean(c) for n, c in zip(class_names[1:], table.T, strict=True) if np.isfinite(c).any()
        }
        score = float(np.mean(list(means.values()))) if means else float("nan")
        return {"score": score, **{f"dice_{name}": float(mean) for name, mean in means.items()}}

    return validate
