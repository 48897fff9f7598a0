"""Building and fitting: the head by binary cross-entropy, then the chance of error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...heads.crops import Crop, FeatureSource
from ...heads.error_table import fit_error_table
from ...heads.labels import IGNORE
from ...heads.requirements import need_cases, need_frozen
from ...heads.selection import train_head
from ...interfaces import FitContext, Segmenter
from ...training.loop import StepLoss, pick_device
from ...types import Batch, Segmentation
from .config import ErrorHeadConfig
from .head import ErrorHead


def make_head(config: ErrorHeadConfig, segmenter: Segmenter) -> ErrorHead:
    """A fresh head for a segmenter's taps.

    Raises:
        InputError: not a `FrozenSegmenter`.
        TapError: it taps nothing.
    """
    frozen = need_frozen(segmenter, "error_head", "reads tapped features")
    return ErrorHead(config, frozen.widths, len(frozen.spec.classes), frozen.spec.spatial_dims)


def fit_head(
    config: ErrorHeadConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> ErrorHead:
    """Fit the head on `fitting` and the chance of error on `calibration`.

    Raises:
        InputError: no cases, or none with a labelled voxel.
    """
    need_cases(fitting, calibration, "error_head")
    frozen = need_frozen(segmenter, "error_head", "reads tapped features")
    device = pick_device(context.device)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        head = make_head(config, frozen)
        frozen.to(device)
        patch = config.patch or frozen.spec.window
        source = FeatureSource(
            frozen, fitting, patch, config.batch_size, context.seed, config.cache_gib * 2**30
        )
        trained = train_head(head, source, _loss_of, config, context, "fit error_head")
    head.load_state_dict(trained.state_dict())
    head.to(device).requires_grad_(False).eval()
    fit_error_table(head.error_table, head, frozen, calibration, context.seed)
    return head


def _loss_of(source: FeatureSource) -> StepLoss:
    def loss(module: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        assert isinstance(module, ErrorHead)
        return {"total": crop_loss(module, source.crops(step), batch.image.device)}

    return loss


def crop_loss(head: ErrorHead, crops: Sequence[Crop], device: torch.device) -> Tensor:
    """Mean binary cross-entropy of the log-odds against being wrong, over the labelled voxels of all crops."""
    scores, wrong = [], []
    for crop in crops:
        moved = {k: v.to(device) for k, v in crop.segmentation.features.items()}
        segmentation = Segmentation(crop.segmentation.logits.to(device), crop.segmentation.link, moved)
        label = crop.label.to(device)
        known = label != IGNORE
        scores.append(head.logit(segmentation)[:, 0][known])
        wrong.append((segmentation.labels() != label)[known])
    return F.binary_cross_entropy_with_logits(torch.cat(scores).float(), torch.cat(wrong).float())
