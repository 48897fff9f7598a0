"""A MONAI bundle's preprocessing and activation in our words, or an error: a guess would change every
prediction."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..types import Link
from .spec import Preprocessing

NEUTRAL = {
    "LoadImage",
    "EnsureChannelFirst",
    "EnsureType",
    "CastToType",
    "ToTensor",
    "ToDevice",
    "SelectItems",
    "AddChannel",
    "AsChannelFirst",
}
"""Transforms that move no voxel and change no intensity beyond what reading a file does here."""


def read_preprocessing(
    config: Mapping[str, Any], spatial_dims: int | None, channels: int | None, folder: Path
) -> Preprocessing:
    """Scaling, normalisation, spacing and orientation to RAS; intensities as they are where a bundle says
    nothing.

    Raises:
        ConfigError: a transform without a counterpart; says to pass `preprocessing`.
    """
    values: dict[str, Any] = {"normalisation": "none", "percentiles": None}
    for transform in _transforms(config.get("preprocessing"), folder):
        name = str(transform.get("_target_", "")).rpartition(".")[2].removesuffix("d").removesuffix("Dict")
        found = _translate(name, transform)
        # Pictures are normalised with all their channels together here, volumes channel by channel.
        pooled = channels != 1 and transform.get("channel_wise") is not (spatial_dims == 3)
        if found is not None and found.get("normalisation") == "zscore" and pooled:
            found = None
        if found is None or (values["normalisation"] != "none" and "normalisation" in found):
            raise _not_readable(folder, f"the transform {transform.get('_target_')}")
        values |= found
    if spatial_dims == 2:
        values.pop("spacing", None)
    return Preprocessing(**values)


def read_link(config: Mapping[str, Any], outputs: int | None, folder: Path) -> Link:
    """Softmax, or a sigmoid over a single output channel.

    Raises:
        ConfigError: several outputs that a sigmoid makes independent of each other.
    """
    post = config.get("postprocessing")
    steps = post.get("transforms") if isinstance(post, Mapping) else None
    sigmoid = any(isinstance(t, Mapping) and t.get("sigmoid") is True for t in steps or ())
    if sigmoid and outputs is not None and outputs > 1:
        raise ConfigError(
            f"{folder}: {outputs} independent sigmoid outputs (overlapping regions), expected classes "
            "that exclude each other."
        )
    return Link.SIGMOID if sigmoid or outputs == 1 else Link.SOFTMAX


def _transforms(value: Any, folder: Path) -> list[Mapping[str, Any]]:
    if value is None:
        return []
    steps = value.get("transforms") if isinstance(value, Mapping) else None
    if not isinstance(steps, list) or not all(isinstance(step, Mapping) for step in steps):
        raise _not_readable(folder, "the list of transforms")
    return [step for step in steps if step.get("_disabled_") is not True]


def _translate(name: str, transform: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fields of `Preprocessing` for one transform; None when it has no counterpart."""
    if "_disabled_" in transform or any(
        isinstance(v, str) and v[:1] in "$@%" and v for v in transform.values()
    ):
        return None
    if name in NEUTRAL:
        return {}
    if name == "Orientation":
        return {} if transform.get("axcodes") == "RAS" else None
    if name == "Spacing":
        pixdim = transform.get("pixdim")
        plain = (
            isinstance(pixdim, list)
            and len(pixdim) == 3
            and all(isinstance(n, int | float) and n > 0 for n in pixdim)
        )
        return {"spacing": tuple(map(float, pixdim))} if plain and pixdim is not None else None
    if name == "ScaleIntensityRange":
        return _scaled_range(transform)
    if name == "NormalizeIntensity":
        return _normalised(transform)
    return None


def _scaled_range(transform: Mapping[str, Any]) -> dict[str, Any] | None:
    numbers = [transform.get(key) for key in ("a_min", "a_max", "b_min", "b_max")]
    if not all(isinstance(n, int | float) for n in numbers):
        return None
    a_min, a_max, b_min, b_max = (float(n) for n in numbers if n is not None)
    std = (a_max - a_min) / (b_max - b_min)
    limits = {"low": a_min, "high": a_max} if transform.get("clip") is True else {}
    return {"normalisation": "fixed", "mean": a_min - b_min * std, "std": std, **limits}


def _normalised(transform: Mapping[str, Any]) -> dict[str, Any] | None:
    subtrahend, divisor = transform.get("subtrahend"), transform.get("divisor")
    if transform.get("nonzero"):
        return None
    if isinstance(subtrahend, int | float) and isinstance(divisor, int | float):
        return {"normalisation": "fixed", "mean": float(subtrahend), "std": float(divisor)}
    if subtrahend is None and divisor is None:
        return {"normalisation": "zscore"}
    return None


def _not_readable(folder: Path, what: str) -> ConfigError:
    return ConfigError(
        f"{folder}: {what} of its preprocessing has no counterpart here; pass preprocessing yourself."
    )
