"""`sfumato train`: a data set in, a trained segmenter folder out."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..datasets import Case, Dataset, Splits, open_dataset
from ..datasets.splits import PATIENT_PATTERN, out_of_fold
from ..errors import ConfigError, DatasetError
from ..imaging import read_image, read_label
from ..pipeline.samples import gather_samples, slices_of
from ..pipeline.windows import blended_slabs, plan_windows
from ..segmenters.presets import PRESET_DIMS, PRESETS, build_preset
from ..segmenters.spec import Preprocessing, SegmenterSpec
from ..segmenters.wrap import auto_taps
from ..storage import save_segmenter, write_json
from ..training.augment import standard_augmentation
from ..training.backbone import dice_validation, segmentation_loss
from ..training.loop import TrainerConfig, train
from ..training.samples import PatchSampler, Sample
from ..types import Link

WINDOW_LIMIT = {2: 512, 3: 96}
"""Longest side of a window chosen automatically, in voxels."""
PATCH_LIMIT = {2: 192, 3: 64}
"""Longest side of a training patch chosen automatically, in voxels."""
MIRROR = {(2, 2): (0, 1), (3, 3): (0,), (2, 3): ()}
"""Axes mirrored by default, by dimensions of network and image: both of a picture, left and right of a volume,
none of a volume's slices, where mirrored anatomy is another anatomy."""
LABELS_SCANNED = 40
"""Label files looked at for the list of values when the data set does not declare one."""


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and how.

    Args:
        preset: name of the network.
        arguments: further keyword arguments of the network, such as its widths.
        classes: names of the foreground classes, where the data set does not declare them.
        patch: training patch; the median grid of the data when empty.
        window: largest window at prediction; the largest grid of the data when empty.
        batch_size: patches per step.
        foreground: share of patches centred on foreground.
        augment: strength of the augmentation, 0 turns it off.
        mirror: grid axes along which patches are mirrored; None means the usual ones (`MIRROR`).
        validation: share of the training patients kept for choosing the epoch.
        samples_per_epoch: patches per epoch; 0 draws every sample once.
        instances: label files number objects; every value above 0 is foreground.
        sigmoid: one foreground logit instead of a softmax over two classes.
        resample: accept sheared or contradictory headers.
        preprocessing: how intensities become network input.
        trainer: how to optimise.
    """

    preset: str
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    patch: tuple[int, ...] = ()
    window: tuple[int, ...] = ()
    batch_size: int = 2
    foreground: float = 0.5
    augment: float = 1.0
    mirror: tuple[int, ...] | None = None
    validation: float = 0.1
    samples_per_epoch: int = 0
    instances: bool = False
    sigmoid: bool = False
    resample: bool = False
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)


def train_segmenter(
    data: Path,
    out: Path,
    config: TrainConfig,
    splits_file: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    split_seed: int | None = None,
) -> dict[str, Any]:
    """Train a preset on the training split and write `segmenter.json` and `weights.safetensors` into `out`.

    A killed run is resumed by the same call.

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


def describe_segmenter(dataset: Dataset, splits: Splits, config: TrainConfig) -> SegmenterSpec:
    """Read the classes, channels and a fitting window off the training cases."""
    if config.preset not in PRESETS:
        build_preset(config.preset, 1, 2)  # raises the error that lists the known names
    dims = PRESET_DIMS[config.preset]
    cases = [dataset.cases[name] for name in splits.train]
    if not cases:
        raise DatasetError("The training split is empty, expected at least one case; write a splits.json.")
    declared = dict(dataset.label_values) or _scan_labels(cases, config.instances, config.resample)
    first = read_image(cases[0].images, cases[0].name, config.resample)
    network = build_preset(config.preset, 1, 2, **config.arguments)
    divisor = int(getattr(network, "divisor", 1))
    window = config.window or _typical_grid(cases, dims, divisor, config.resample, np.max, WINDOW_LIMIT[dims])
    return SegmenterSpec(
        source=f"preset:{config.preset}",
        arguments=config.arguments,
        spatial_dims=dims,
        channels=first.array.shape[0],
        classes=_named(declared, config.classes),
        label_values=tuple(declared),
        link=Link.SIGMOID if config.sigmoid else Link.SOFTMAX,
        window=window,
        divisor=divisor,
        preprocessing=config.preprocessing,
    )


def _named(declared: dict[int, str], names: tuple[str, ...]) -> tuple[str, ...]:
    if names and len(names) != len(declared) - 1:
        raise ConfigError(
            f"{len(names)} class names {names}, expected one for each label value {list(declared)[1:]}."
        )
    return ("background", *names) if names else tuple(declared.values())


def _scan_labels(cases: list[Case], instances: bool, resample: bool) -> dict[int, str]:
    if instances:
        return {0: "background", 1: "object"}
    step = max(1, len(cases) // LABELS_SCANNED)
    values = {0}
    for case in cases[::step]:
        if case.label is not None:
            values |= set(np.unique(read_label(case.label, case.name, resample).array).tolist())
    if len(values) > 256:
        raise ConfigError(
            f"the label files hold {len(values)} different values; pass --instances if they number objects."
        )
    return {v: "background" if v == 0 else f"class {v}" for v in sorted(values)}


def _typical_grid(
    cases: list[Case], dims: int, divisor: int, resample: bool, reduce: Any, limit: int
) -> tuple[int, ...]:
    step = max(1, len(cases) // LABELS_SCANNED)
    images = [read_image(c.images, c.name, resample) for c in cases[::step]]
    grids = np.array([i.geometry.shape[:dims] for i in images])
    sides = [int(-(-n // divisor) * divisor) for n in reduce(grids, axis=0)]
    return tuple(min(limit // divisor * divisor, side) for side in sides)


def _hold_out(samples: tuple[Sample, ...], config: TrainConfig) -> tuple[list[Sample], list[Sample]]:
    if config.validation <= 0:
        return list(samples), []
    folds = max(2, round(1 / config.validation))
    fold = out_of_fold([s.patient for s in samples], folds, config.trainer.seed)
    fit = [s for s, f in zip(samples, fold, strict=True) if f]
    if not fit:
        raise DatasetError("All training cases are of one patient; add others, or pass --validation 0.")
    return fit, [s for s, f in zip(samples, fold, strict=True) if not f]


def _training_parts(samples: list[Sample], spec: SegmenterSpec, config: TrainConfig):
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
    return module, segmentation_loss(spec.link, spec.spatial_dims), sampler


def _typical_patch(samples: list[Sample], spec: SegmenterSpec) -> tuple[int, ...]:
    grids = np.median([s.label.shape[-spec.spatial_dims :] for s in samples], axis=0)
    divisor = max(spec.divisors)
    limit = PATCH_LIMIT[spec.spatial_dims] // divisor * divisor
    return tuple(min(limit, int(-(-n // divisor) * divisor)) for n in grids)


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
