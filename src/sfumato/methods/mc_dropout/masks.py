"""Dropout as a function of a generator: which entries fall out never depends on the global random state."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

SATURATION = -1.7580993408473766
"""SELU's negative limit, -scale * alpha: what alpha dropout writes (Klambauer et al., 2017, arXiv 1706.02515)."""
LAYERS = (
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
"""torch's own."""
CHANNELS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
"""Layers that drop whole channels."""
PATHS = ("DropPath", "StochasticDepth")
"""Class names of layers that drop the whole branch of a row: timm's and torchvision's are not torch's."""


def layer_rate(layer: nn.Module) -> float:
    """The share that a dropout layer drops, 0 for any other layer.

    Example:
        >>> layer_rate(nn.Dropout2d(0.25)), layer_rate(nn.ReLU())
        (0.25, 0.0)
    """
    if isinstance(layer, LAYERS):
        return float(layer.p)
    if any(name in type(layer).__name__ for name in PATHS):
        rate = getattr(layer, "drop_prob", getattr(layer, "p", 0.0))
        return float(rate or 0.0)
    return 0.0


def drop_as(
    layer: nn.Module, value: Float[Tensor, "batch channels *grid"], generator: torch.Generator
) -> Float[Tensor, "batch channels *grid"]:
    """What a dropout layer in training mode would return, its mask drawn from a generator."""
    rate = layer_rate(layer)
    if any(name in type(layer).__name__ for name in PATHS):
        return drop(value, rate, value.shape[:1], generator)
    shape = value.shape[:2] if isinstance(layer, CHANNELS) else value.shape
    if isinstance(layer, nn.AlphaDropout | nn.FeatureAlphaDropout):
        return drop_alpha(value, rate, shape, generator)
    return drop(value, rate, shape, generator)


def drop(value: Tensor, rate: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """x m / (1 - q), with m = 0 at a share q of entries: the expectation stays x; all 0 for q = 1.

    Args:
        value: any shape.
        rate: q, in [0, 1].
        shape: of the mask, the leading axes of the value; the rest shares a draw.
        generator: on the CPU, so that every device drops the same.
    """
    kept = _mask(value, rate, shape, generator)
    return value * (kept / max(1 - rate, 1e-12)).to(value.dtype)


def drop_alpha(value: Tensor, rate: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """a (x m + s (1 - m)) + b: mean 0 and variance 1 stay, s SELU's negative limit.

    a = ((1 - q)(1 + q s^2))^(-1/2), b = -a q s; arguments as for `drop`; all 0 for q = 1.
    """
    if rate >= 1:
        return torch.zeros_like(value)
    kept = _mask(value, rate, shape, generator)
    gain = ((1 - rate) * (1 + rate * SATURATION**2)) ** -0.5
    return gain * (value * kept + SATURATION * (1 - kept)) - gain * rate * SATURATION


def _mask(value: Tensor, rate: float, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    kept = (torch.rand(tuple(shape), generator=generator) >= rate).to(value.device, value.dtype)
    return kept.reshape(*shape, *[1] * (value.dim() - len(shape)))
