"""What is to be trained, and what the data set says about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..datasets import Case, Dataset, Splits
from ..errors import ConfigError, DatasetError
from ..imaging import read_image, read_label
from ..segmenters.presets import PRESET_DIMS, PRESETS, build_preset
from ..segmenters.spec import Preprocessing, SegmenterSpec
from ..training.config import TrainerConfig
from ..training.duo import DuoConfig
from ..types import Link

WINDOW_LIMIT = {2: 512, 3: 96}
"""Longest side of a window chosen automatically, in voxels."""
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
        duo: weigh classes and correct labels while training, see `DuoConfig`; None trains plainly.
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
    duo: DuoConfig | None = None


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
