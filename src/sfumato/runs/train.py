"""`sfumato train`: a data set in, a trained segmenter folder out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..datasets import open_dataset
from ..datasets.splits import PATIENT_PATTERN, out_of_fold
from ..errors import ConfigError, DatasetError
from ..pipeline.samples import gather_samples, slices_of
from ..pipeline.windows import blended_slabs, plan_windows
from ..segmenters.presets import build_preset
from ..segmenters.spec import SegmenterSpec
from ..segmenters.wrap import auto_taps
from ..storage import save_segmenter, write_json
from ..training.augment import standard_augmentation
from ..training.backbone import dice_validation, segmentation_loss
from ..training.duo import DuoLoss, DuoNetwork, duo_step
from ..training.duo.coefficients import CoefficientTable, write_annotation_bias
from ..training.loop import StepLoss, train
from ..training.samples import PatchSampler, Sample
from ..types import Link
from .train_plan import TrainConfig, describe_segmenter

PATCH_LIMIT = {2: 192, 3: 64}
"""Longest side of a training patch chosen automatically, in voxels."""
MIRROR = {(2, 2): (0, 1), (3, 3): (0,), (2, 3): ()}
"""Axes mirrored by default, by dimensions of network and image: both of a picture, left and right of a volume,
none of a volume's slices, where mirrored anatomy is another anatomy."""
BIAS_FILE = "annotation_bias.csv"
"""By-product of DUO: per training case and class, whether its label was shrunk or grown while training."""


def train_segmenter(
    data: Path,
    out: Path,
    config: TrainConfig,
    splits_file: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    split_seed: int | None = None,
) -> dict[str, Any]:
    """Train a preset on the training split and write `segmenter.json` and `weights.safetensors` into `out`.

    A killed run is resumed by the same call. With DUO the network is saved without its noise head, and what was learnt
    about the labels as `annotation_bias.csv`.

    Returns:
        The validation scores and what was left out.
    """
    dataset = open_dataset(data, patient_pattern)
    splits = dataset.splits(splits_file, split_seed)
    out.mkdir(parents=True, exist_ok=True)
    _refuse_another_run(out, config)
    write_json(out / "splits.json", splits.to_json())
    spec = describe_segmenter(dataset, splits, config)
    cases = [dataset.cases[name] for name in splits.train]
    gathered = gather_samples(cases, spec, config.instances, config.resample)
    fit, held_out = _hold_out(gathered.samples, config)
    module, loss, sampler = _training_parts(fit, spec, config)

    def segment(network: nn.Module, image: np.ndarray) -> np.ndarray:
        return segment_array(network, image, spec)

    trained = train(
        module,
        loss,
        sampler.batch,
        sampler.steps_per_epoch,
        config.trainer,
        out,
        dice_validation(held_out, segment, spec.classes) if held_out else None,
        title=f"train {config.preset}",
    )
    if isinstance(trained, DuoNetwork):
        trained = _without_noise_head(trained, out / BIAS_FILE, sampler.cases, spec.classes[1:])
    scores = dict(dice_validation(held_out, segment, spec.classes)(trained)) if held_out else {}
    record = {
        "config": asdict(config),
        "cases": len(fit),
        "validation_cases": [s.name for s in held_out],
        "validation": scores,
        "splits": splits.to_json(),
    }
    save_segmenter(out, trained, replace(spec, taps=auto_taps(trained, spec)), record)
    return {"validation": scores, "problems": [*dataset.problems, *gathered.problems]}


def _refuse_another_run(out: Path, config: TrainConfig) -> None:
    path = out / "train.json"
    content = json.loads(json.dumps(asdict(config)))
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [k for k in content if before.get(k) != content[k]]
        if different:
            raise ConfigError(
                f"{out}: holds a run with other settings ({', '.join(different)}); choose another --out, or delete it."
            )
    write_json(path, content)


def _hold_out(samples: tuple[Sample, ...], config: TrainConfig) -> tuple[list[Sample], list[Sample]]:
    if config.validation <= 0:
        return list(samples), []
    folds = max(2, round(1 / config.validation))
    fold = out_of_fold([s.patient for s in samples], folds, config.trainer.seed)
    fit = [s for s, f in zip(samples, fold, strict=True) if f]
    if not fit:
        raise DatasetError("All training cases are of one patient; add others, or pass --validation 0.")
    return fit, [s for s, f in zip(samples, fold, strict=True) if not f]


def _training_parts(
    samples: list[Sample], spec: SegmenterSpec, config: TrainConfig
) -> tuple[nn.Module, StepLoss, PatchSampler]:
    volumes = samples[0].label.ndim == 3
    pieces = [p for s in samples for p in slices_of(s)] if spec.spatial_dims == 2 and volumes else samples
    patch = config.patch or _typical_patch(samples, spec)
    mirror = MIRROR[spec.spatial_dims, samples[0].label.ndim] if config.mirror is None else config.mirror
    augment = standard_augmentation(spec.spatial_dims, mirror, config.augment) if config.augment else None
    sampler = PatchSampler(pieces, patch, config.batch_size, config.foreground, config.trainer.seed, augment)
    if config.samples_per_epoch:
        sampler = replace(sampler, limit=config.samples_per_epoch)
    torch.manual_seed(config.trainer.seed)
    module = build_preset(config.preset, spec.channels, spec.logit_channels, **config.arguments)
    if config.duo is None:
        return module, segmentation_loss(spec.link, spec.spatial_dims), sampler
    loss = DuoLoss(len(spec.classes) - 1, config.duo, len(sampler.cases), spec.link, config.trainer.seed)
    blank = torch.zeros(1, spec.channels, *patch)
    return DuoNetwork(module, blank, loss), duo_step(config.trainer.epochs * sampler.steps_per_epoch), sampler


def _typical_patch(samples: list[Sample], spec: SegmenterSpec) -> tuple[int, ...]:
    grids = np.median([s.label.shape[-spec.spatial_dims :] for s in samples], axis=0)
    divisor = max(spec.divisors)
    limit = PATCH_LIMIT[spec.spatial_dims] // divisor * divisor
    return tuple(min(limit, int(-(-n // divisor) * divisor)) for n in grids)


def _without_noise_head(
    trained: DuoNetwork, path: Path, cases: Sequence[str], classes: Sequence[str]
) -> nn.Module:
    if isinstance(trained.loss.coefficients, CoefficientTable):
        write_annotation_bias(path, trained.loss.coefficients, cases, classes)
    return trained.network


def segment_array(network: nn.Module, image: np.ndarray, spec: SegmenterSpec) -> np.ndarray:
    """Class number per voxel of a prepared image, by sliding windows; (channels, *grid) to (*grid)."""
    plan = plan_windows(image.shape[1:], spec.window, spec.divisor)
    device = next(network.parameters()).device
    threshold = spec.link is Link.SIGMOID

    def run(windows: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.inference_mode():
            return {"logits": network(windows.to(device))}

    slabs = [
        (slab["logits"] > 0)[0].long() if threshold else slab["logits"].argmax(0)
        for _, slab in blended_slabs(image, plan, run)
    ]
    return torch.cat(slabs, dim=plan.axis).numpy()
