"""Building and fitting: a temperature, then the head by its losses, then the chance of error."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...heads.crops import Crop, FeatureSource
from ...heads.labels import IGNORE, label_of
from ...heads.requirements import need_cases, need_frozen
from ...heads.selection import train_head
from ...heads.temperature import fit_temperature
from ...heads.vector import fit_vector_scaling
from ...heads.voxels import Voxels
from ...interfaces import FitContext, Segmenter
from ...measures.entropy import margin
from ...segmenters.wrap import FrozenSegmenter
from ...training.loop import StepLoss, pick_device
from ...types import Batch, Kind, Segmentation
from .config import PerturbationHeadConfig
from .head import PerturbationHead
from .losses import head_losses

EASY_MARGIN = 0.98
"""Correct voxels above this top-two margin are the easy ones that `easy_share` thins out."""
MEMORISED = 0.3
"""Below this ratio of error rates, fitting to calibration cases, the segmenter has learned the fitting cases by
heart and the head sees too few of its typical mistakes (spec 15.1.1)."""


def make_head(config: PerturbationHeadConfig, segmenter: Segmenter) -> PerturbationHead:
    """A fresh head for a segmenter's taps.

    Raises:
        InputError: not a `FrozenSegmenter`.
        TapError: it taps nothing.
    """
    segmenter = need_frozen(segmenter, "perturbation_head", "reads tapped features")
    spec = segmenter.spec
    return PerturbationHead(config, segmenter.widths, len(spec.classes), spec.spatial_dims)


def fit_head(
    config: PerturbationHeadConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> PerturbationHead:
    """Fit temperature and head on `fitting`, the chance of error (and the temperature again) on `calibration`."""
    need_cases(fitting, calibration, "perturbation_head")
    segmenter = need_frozen(segmenter, "perturbation_head", "reads tapped features")
    device = pick_device(context.device)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        head = make_head(config, segmenter)
        segmenter.to(device)
        patch = config.patch or segmenter.spec.window
        source = FeatureSource(
            segmenter, fitting, patch, config.batch_size, context.seed, config.cache_gib * 2**30
        )
        rate = _prepare(head, source, context)
        trained = train_head(
            head, source, lambda part: _loss_of(part, context.seed), config, context, "fit perturbation_head"
        )
    head.load_state_dict(trained.state_dict())
    head.to(device).requires_grad_(False).eval()
    other = _calibrate(head, segmenter, calibration, context)
    if rate < MEMORISED * other:
        context.say(
            f"warning: the segmenter errs on {rate:.2%} of the fitting voxels but on {other:.2%} of the calibration "
            "voxels; was it trained on the fitting cases? Fit on cases that it has not seen."
        )
    return head


def _prepare(head: PerturbationHead, source: FeatureSource, context: FitContext) -> float:
    """The global temperature; returns the error rate of the fitting cases."""
    seen = Voxels.gather(
        ((source.segmentation(i), label_of(case, i), None, None) for i, case in enumerate(source.cases)),
        len(source.cases),
        context.seed,
    )
    if head.config.global_temperature:
        head.global_temperature.fill_(fit_temperature(seen.logits, seen.labels))
        context.say(f"global temperature {float(head.global_temperature):.3f}")
    if head.config.class_scaling:
        scale, bias = fit_vector_scaling(seen.logits, seen.labels)
        head.class_scale.copy_(scale)
        head.class_bias.copy_(bias)
    return float(torch.cat(seen.wrong()).double().mean())


def _loss_of(source: FeatureSource, seed: int) -> StepLoss:
    def loss(module: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        assert isinstance(module, PerturbationHead)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return crop_losses(module, source.crops(step), batch.image.device, generator)

    return loss


def crop_losses(
    head: PerturbationHead, crops: Sequence[Crop], device: torch.device, generator: torch.Generator
) -> dict[str, Tensor]:
    """The head's losses on the chosen voxels of all crops together."""
    columns: list[list[Tensor]] = [[], [], []]
    labels, weights = [], []
    for crop in crops:
        moved = {k: v.to(device) for k, v in crop.segmentation.features.items()}
        segmentation = Segmentation(crop.segmentation.logits.to(device), crop.segmentation.link, moved)
        logits = segmentation.full_logits().flatten(2)
        label = crop.label.to(device).flatten()
        index, weight = choose_voxels(logits[0], label, head.config.easy_share, generator)
        responses = head.responses(segmentation)
        for target, value in zip(
            columns, (logits, *(v.flatten(2) for v in responses.values())), strict=False
        ):
            target.append(value[:, :, index])
        labels.append(label[index])
        weights.append(weight)
    z, probes, *aleatoric = (torch.cat(c, dim=2) for c in columns if c)
    maps = head.maps(z, probes, *aleatoric)
    shares = torch.cat(weights) if head.config.easy_share < 1 else None
    with torch.autocast(device.type, enabled=False):
        return head_losses(maps, z, torch.cat(labels), head.config, generator, head.logistic, shares)


def choose_voxels(
    logits: Tensor, label: Tensor, easy_share: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which voxels the losses see, and how many each stands for.

    Args:
        logits: (classes, voxels).
        label: (voxels,), -1 never counts.
        easy_share: share of the correct and confident voxels that is kept, each standing for 1 / share.
        generator: on the CPU, draws them.
    """
    known = label != IGNORE
    if easy_share >= 1:
        index = known.nonzero()[:, 0]
        return index, torch.ones_like(index, dtype=logits.dtype)
    easy = (logits.argmax(dim=0) == label) & (margin(torch.softmax(logits, dim=0)[None])[0] > EASY_MARGIN)
    drawn = torch.rand(label.shape, generator=generator).to(label.device) < easy_share
    index = (known & (~easy | drawn)).nonzero()[:, 0]
    if len(index) == 0:
        index = known.nonzero()[:1, 0]
    return index, torch.where(easy[index], 1 / easy_share, 1.0).to(logits.dtype)


def _calibrate(
    head: PerturbationHead, segmenter: FrozenSegmenter, cases: Sequence[Batch], context: FitContext
) -> float:
    """Temperature and error table from calibration cases; returns their error rate."""
    seen = Voxels.gather(
        (_estimated(head, segmenter, case, i) for i, case in enumerate(cases)), len(cases), context.seed
    )
    if head.config.global_temperature:
        tempered = [
            z / t * head.global_temperature.cpu() for z, t in zip(seen.logits, seen.temperatures, strict=True)
        ]
        head.global_temperature.fill_(fit_temperature(tempered, seen.labels))
        context.say(f"global temperature on calibration cases {float(head.global_temperature):.3f}")
    wrong = torch.cat(seen.wrong())
    head.error_table.fit(torch.cat(seen.scores), wrong)
    return float(wrong.double().mean())


def _estimated(head: PerturbationHead, segmenter: FrozenSegmenter, case: Batch, index: int):
    segmentation = segmenter.segment(case)
    reduced = Segmentation(segmentation.logits, segmentation.link, head.respond(case, segmentation))
    uncertainty = head.estimate(case, reduced)
    return segmentation, label_of(case, index), uncertainty.maps[Kind.RANKING], uncertainty.temperature
