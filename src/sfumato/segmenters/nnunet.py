"""nnU-Net v2 results folders: `dataset.json`, `plans.json` and `fold_0/checkpoint_final.pth`.

nnU-Net reads volumes with the axes (z, y, x), then transposes them as its plans say; networks here see RAS+
axes (x, y, z). Convolutions do not care which axis comes first, so the network is built with the axes of its
kernels and strides reordered, and gives the same numbers on our grid. What its plans do not say is which way
the axes of the training files pointed; networks trained with nnU-Net's mirroring hardly mind.

Differences that remain: nnU-Net crops images to their non-zero part before it normalises them, resamples with
cubic instead of linear interpolation, and averages mirrored copies.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, MissingExtraError, StorageError
from ..types import Link
from .described import Description, Found
from .nnunet_plans import Plans, read_plans, read_preprocessing
from .state import fill, read_checkpoint, tensors_inside

SCHEME = "nnunet:"
ARCHITECTURES = "dynamic_network_architectures.architectures."
PER_AXIS = "kernel_sizes", "strides"
"""Arguments that hold one number per axis and stage."""
CHECKPOINTS = "checkpoint_final.pth", "checkpoint_best.pth", "checkpoint_latest.pth"


def is_nnunet_folder(folder: Path) -> bool:
    """Whether it is a results folder of nnU-Net v2, or one of its folds."""
    return any(
        (place / "plans.json").is_file() and (place / "dataset.json").is_file()
        for place in (folder, folder.parent)
    )


def load_nnunet(folder: Path, asked: Description, allow_pickle: bool) -> Found:
    """The network of one fold with its weights, and what its plans say about it.

    Args:
        folder: the results folder (`nnUNetTrainer__nnUNetPlans__3d_fullres`), whose first fold is taken, or a
            fold.
        asked: what the caller says; a given preprocessing replaces the plans', which is then not read.
        allow_pickle: nnU-Net's checkpoints are pickles; they are read without running anything from them.

    Raises:
        ConfigError: region-based labels, cascades, or normalisation without a counterpart.
        StorageError: missing or damaged files.
        MissingExtraError: nnU-Net is not installed.
    """
    path = _checkpoint(folder)
    checkpoint = read_checkpoint(path, allow_pickle)
    configuration = checkpoint.get("init_args", {}).get("configuration")
    plans = read_plans(path.parents[1], configuration)
    imports = [k for k in plans.imports if plans.arguments.get(k) is not None]
    kwargs = {k: _reordered(v, plans.axes) if k in PER_AXIS else v for k, v in plans.arguments.items()}
    arguments = {"arguments": kwargs, "imports": imports}
    module = build_architecture(plans.architecture, arguments, len(plans.channels), len(plans.labels))
    fill(module, reordered_state(tensors_inside(checkpoint, path), plans.axes), path)
    return Found(module, SCHEME + plans.architecture, arguments, _describe(plans, kwargs, asked, folder))


def build_architecture(name: str, arguments: Mapping[str, Any], channels: int, outputs: int) -> nn.Module:
    """A network of nnU-Net's own package, with fresh weights.

    Args:
        name: full name of a class in `dynamic_network_architectures.architectures`.
        arguments: `arguments` of its constructor, and `imports`: those among them that name a class of
            `torch.nn`.
        channels: image channels.
        outputs: logits.

    Raises:
        ConfigError: another class, or arguments that it does not take.
        MissingExtraError: nnU-Net is not installed.
    """
    place, _, class_name = name.rpartition(".")
    if not name.startswith(ARCHITECTURES):
        raise ConfigError(
            f"The network class {name!r} is not one of {ARCHITECTURES[:-1]}; nothing else is built."
        )
    try:
        found = getattr(importlib.import_module(place), class_name, None)
    except ImportError as error:
        raise MissingExtraError("nnunetv2", "nnunet", f"the network {class_name}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(
            f"{place} has no network {class_name!r}; the plans need another version of nnU-Net."
        )
    kwargs = dict(arguments.get("arguments", {}))
    for key in arguments.get("imports", ()):
        kwargs[key] = _torch_class(str(kwargs[key]))
    kwargs["deep_supervision"] = False
    try:
        return found(input_channels=channels, num_classes=outputs, **kwargs)
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"{name} does not take the plans' arguments ({error}).") from error


def reordered_state(state: Mapping[str, Tensor], axes: Sequence[int]) -> dict[str, Tensor]:
    """Convolution kernels whose axis i is the network's axis `axes[i]`; other weights as they are."""
    order = (0, 1, *(2 + a for a in axes))
    return {k: v.permute(order).contiguous() if v.dim() == len(order) else v for k, v in state.items()}


def _reordered(value: Any, axes: Sequence[int]) -> Any:
    per_stage = isinstance(value, list | tuple) and all(isinstance(stage, list | tuple) for stage in value)
    return [[stage[a] for a in axes] for stage in value] if per_stage else value


def _describe(plans: Plans, kwargs: Mapping[str, Any], asked: Description, folder: Path) -> Description:
    strides = [s if isinstance(s, list) else [s] * len(plans.axes) for s in kwargs["strides"]]
    return Description(
        classes=tuple(plans.labels.values()),
        label_values=tuple(plans.labels),
        channels=len(plans.channels),
        spatial_dims=len(plans.axes),
        link=Link.SOFTMAX,
        window=tuple(plans.patch[a] for a in plans.axes),
        divisor=tuple(math.prod(s[i] for s in strides) for i in range(len(plans.axes))),
        preprocessing=asked.preprocessing or read_preprocessing(plans, folder),
    )


def _checkpoint(folder: Path) -> Path:
    single = (folder.parent / "plans.json").is_file() and not (folder / "plans.json").is_file()
    folds = [folder] if single else sorted(folder.glob("fold_*"))
    found = [fold / name for name in CHECKPOINTS for fold in folds if (fold / name).is_file()]
    if not found:
        raise StorageError(f"{folder}: no weights, expected fold_0/{CHECKPOINTS[0]}.")
    return found[0]


def _torch_class(name: str) -> type[nn.Module]:
    found = getattr(torch.nn, name.rpartition(".")[2], None) if name.startswith("torch.nn.") else None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ConfigError(f"The plans name {name!r}, expected a layer of torch.nn; nothing else is imported.")
    return found
