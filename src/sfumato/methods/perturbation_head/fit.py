"""Building and fitting: a temperature, then the head by its losses, then the chance of error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...interfaces import FitContext, Segmenter
from ...measures.entropy import margin
from ...segmenters.wrap import FrozenSegmenter
from ...training.loop import TrainerConfig, pick_device, train
from ...types import Batch, Kind, Segmentation
from .calibration import fit_temperature
from .config import PerturbationHeadConfig
from .crops import Crop, FeatureSource, label_of
from .head import PerturbationHead
from .losses import IGNORE, head_losses

EASY_MARGIN = 0.98
"""Correct voxels above this top-two margin are the easy ones that `easy_share` thins out."""
VOXEL_LIMIT = 1 << 23
"""Most voxels that temperature and error table are fitted on."""
MEMORISED = 0.3
"""Below this ratio of error rates, fitting to calibration cases, the segmenter has learned the fitting cases by
heart and the head sees too few of its typical mistakes (spec 15.1.1)."""


def make_head(config: PerturbationHeadConfig, segmenter: Segmenter) -> PerturbationHead:
    """A fresh head for a segmenter's taps.

    Raises:
        InputError: not a `FrozenSegmenter`.
        TapError: it taps nothing.
    """
    if not isinstance(segmenter, FrozenSegmenter):
        raise InputError(
            f"perturbation_head reads tapped features, got a {type(segmenter).__name__}, expected a "
            "FrozenSegmenter; make one with sfumato.segmenters.wrap."
        )
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
    if not fitting or not calibration:
        raise InputError(
            f"perturbation_head got {len(fitting)} fitting and {len(calibration)} calibration cases, expected at "
            "least one of each."
        )
    device = pick_device(context.device)
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        head = make_head(config, segmenter)
        assert isinstance(segmenter, FrozenSegmenter)
        segmenter.to(device)
        patch = config.patch or segmenter.spec.window
        source = FeatureSource(
            segmenter, fitting, patch, config.batch_size, context.seed, config.cache_gib * 2**30
        )
        rate = _prepare(head, source, context)
        trained = _train(head, source, context)
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
    seen = _Voxels.gather(
        ((source.segmentation(i), label_of(case, i), None, None) for i, case in enumerate(source.cases)),
        len(source.cases),
        context.seed,
    )
    if head.config.global_temperature:
        head.global_temperature.fill_(fit_temperature(seen.logits, seen.labels))
        context.say(f"global temperature {float(head.global_temperature):.3f}")
    return float(torch.cat(seen.wrong()).double().mean())


def _train(head: PerturbationHead, source: FeatureSource, context: FitContext) -> nn.Module:
    config = head.config
    steps = min(source.steps_per_epoch, config.steps or source.steps_per_epoch)
    trainer = TrainerConfig(
        epochs=max(1, min(config.epochs, round(config.steps / steps) if config.steps else config.epochs)),
        learning_rate=config.learning_rate,
        final_learning_rate=config.final_learning_rate,
        weight_decay=config.weight_decay,
        warmup=0,
        clip=config.clip,
        average=config.average,
        precision=config.precision,
        seed=context.seed,
        device=context.device,
    )

    def loss(module: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        assert isinstance(module, PerturbationHead)
        generator = torch.Generator().manual_seed(context.seed * 1_000_003 + step)
        return crop_losses(module, source.crops(step), batch.image.device, generator)

    return train(head, loss, source.batch, steps, trainer, context.folder, title="fit perturbation_head")


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
    seen = _Voxels.gather(
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


@dataclass
class _Voxels:
    """Labelled voxels of cases, on the CPU, thinned out evenly where there are too many."""

    logits: list[Tensor]
    labels: list[Tensor]
    scores: list[Tensor]
    temperatures: list[Tensor]

    @classmethod
    def gather(cls, cases, count: int, seed: int) -> _Voxels:
        found = cls([], [], [], [])
        generator = torch.Generator().manual_seed(seed)
        for segmentation, label, score, temperature in cases:
            flat = label.flatten().cpu()
            index = (flat != IGNORE).nonzero()[:, 0]
            if len(index) > VOXEL_LIMIT // count:
                index = index[torch.randperm(len(index), generator=generator)[: VOXEL_LIMIT // count]]
            logits = segmentation.full_logits().movedim(1, 0).flatten(1).cpu()
            found.logits.append(logits[:, index])
            found.labels.append(flat[index])
            if score is not None:
                found.scores.append(score.flatten().cpu()[index])
                found.temperatures.append(temperature.flatten().cpu()[index])
        return found

    def wrong(self) -> list[Tensor]:
        return [z.argmax(dim=0) != y for z, y in zip(self.logits, self.labels, strict=True)]
