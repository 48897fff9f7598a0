"""What nnU-Net's `plans.json` and `dataset.json` say, in our words and axis order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingExtraError, StorageError
from .spec import Preprocessing
from .state import read_object

PICTURES = ".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg"
"""File endings of two-dimensional data without millimetres."""
SCHEMES = {
    "ZScoreNormalization": "zscore",
    "CTNormalization": "fixed",
    "RGBTo01Normalization": "unit",
    "NoNormalization": "none",
}
"""nnU-Net's normalisations that have a counterpart here."""


@dataclass(frozen=True)
class Plans:
    """One configuration.

    Args:
        architecture: full class name of the network.
        arguments: of its constructor, in nnU-Net's axis order.
        imports: arguments that name classes.
        axes: our grid axis i is nnU-Net's axis `axes[i]`.
        patch: in nnU-Net's axis order.
        spacing: millimetres along R, A, S; 0 keeps the file's; None for pictures.
        channels: names.
        labels: value -> class name, background first.
        schemes: normalisation per channel.
        masked: whether each channel is normalised inside its non-zero part only.
        intensities: of the training foreground, per channel.
    """

    architecture: str
    arguments: Mapping[str, Any]
    imports: tuple[str, ...]
    axes: tuple[int, ...]
    patch: tuple[int, ...]
    spacing: tuple[float, ...] | None
    channels: tuple[str, ...]
    labels: Mapping[int, str]
    schemes: tuple[str, ...]
    masked: tuple[bool, ...]
    intensities: Mapping[str, Mapping[str, float]]


def read_plans(folder: Path, configuration: str | None) -> Plans:
    """Read both files.

    Args:
        folder: of `plans.json` and `dataset.json`.
        configuration: its name; the folder's name ends in it when the checkpoint does not say.

    Raises:
        ConfigError: region-based labels, a cascade, or an unknown configuration.
        StorageError: missing or damaged files.
        MissingExtraError: nnU-Net is not installed.
    """
    try:
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    except ImportError as error:
        raise MissingExtraError("nnunetv2", "nnunet", "reading an nnU-Net results folder") from error
    plans, dataset = read_object(folder / "plans.json"), read_object(folder / "dataset.json")
    name = configuration or folder.name.rpartition("__")[2]
    if name not in plans.get("configurations", {}):
        raise ConfigError(f"{folder}: plans.json has no configuration {name!r}.")
    try:
        chosen = PlansManager(plans).get_configuration(name)
        if chosen.previous_stage_name is not None:
            raise ConfigError(
                f"{folder}: {name} is the second stage of a cascade, expected a network that needs no other."
            )
        transpose, pictures = list(plans["transpose_forward"]), dataset.get("file_ending") in PICTURES
        axes = _axes(transpose, len(chosen.patch_size), pictures)
        return Plans(
            architecture=chosen.network_arch_class_name,
            arguments=chosen.network_arch_init_kwargs,
            imports=tuple(chosen.network_arch_init_kwargs_req_import),
            axes=axes,
            patch=tuple(chosen.patch_size),
            spacing=None if pictures else _spacing(chosen.spacing, transpose),
            channels=tuple(dataset.get("channel_names", dataset.get("modality", {})).values()),
            labels=_labels(dataset, folder),
            schemes=tuple(chosen.normalization_schemes),
            masked=tuple(chosen.use_mask_for_norm),
            intensities=plans.get("foreground_intensity_properties_per_channel", {}),
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise StorageError(f"{folder}: not nnU-Net v2 plans ({type(error).__name__}: {error}).") from error


def read_preprocessing(plans: Plans, folder: Path) -> Preprocessing:
    """Normalisation and spacing.

    Raises:
        ConfigError: no counterpart here, or not the same for all channels; says to pass `preprocessing`.
    """
    scheme = plans.schemes[0]
    wrong = None
    if scheme not in SCHEMES:
        wrong = f"the normalisation {scheme}"
    elif any(plans.masked):
        wrong = "normalisation inside the non-zero part only"
    elif len(plans.schemes) > 1 and (
        len(set(plans.schemes)) > 1 or scheme == "CTNormalization" or plans.spacing is None
    ):
        wrong = f"a normalisation per channel ({', '.join(plans.schemes)})"
    if wrong:
        raise ConfigError(f"{folder}: {wrong} has no counterpart here; pass preprocessing yourself.")
    values: dict[str, Any] = {}
    if scheme == "CTNormalization":
        known = plans.intensities["0"]
        values = {
            "low": float(known["percentile_00_5"]),
            "high": float(known["percentile_99_5"]),
            "mean": float(known["mean"]),
            "std": float(known["std"]),
        }
    normalisation: Any = SCHEMES[scheme]
    return Preprocessing(normalisation, percentiles=None, spacing=plans.spacing, **values)


def _axes(transpose: list[int], dims: int, pictures: bool) -> tuple[int, ...]:
    """For each of our axes, nnU-Net's; it reads volumes as (z, y, x) and pictures as (1, row, column)."""
    if dims == 3:
        return tuple(transpose.index(2 - ours) for ours in range(3))
    plane = transpose[1:]  # it walks along the first transposed axis
    ours = sorted(plane) if pictures else sorted(plane, reverse=True)
    return tuple(plane.index(axis) for axis in ours)


def _spacing(spacing: list[float], transpose: list[int]) -> tuple[float, ...]:
    """Along R, A, S; a 2-D network's slices keep the file's distance."""
    full = [0.0, *spacing] if len(spacing) == 2 else spacing
    return tuple(float(full[transpose.index(2 - ours)]) for ours in range(3))


def _labels(dataset: Mapping[str, Any], folder: Path) -> dict[int, str]:
    labels = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    if any(isinstance(value, list | tuple) for value in labels.values()):
        raise ConfigError(f"{folder}: region-based labels overlap, expected classes that exclude each other.")
    return {int(value): name for name, value in sorted(labels.items(), key=lambda item: int(item[1]))}
