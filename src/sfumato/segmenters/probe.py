"""Small dry runs that learn what a network wants: which grids it takes, and where its full-resolution
logits are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from .spec import SegmenterSpec

LEAST_SIDE = 32
"""Sides of a dry run's image: five halvings leave more than the one voxel that instance normalisation
refuses."""
LARGEST_SIDE = {2: 192, 3: 64}
"""No dry run that looks for the divisor is larger: it should take seconds on a CPU."""
DIVISORS = {2: (1, 2, 4, 8, 16, 32, 64), 3: (1, 2, 4, 8, 16, 32)}
"""Divisors tried, smallest first, when nobody names one."""


def network_device(module: nn.Module) -> torch.device:
    """Where the parameters are; the CPU for a module without any."""
    parameter = next(iter(module.parameters()), None)
    return torch.device("cpu") if parameter is None else parameter.device


def network_dtype(module: nn.Module) -> torch.dtype:
    """The floating type of the parameters; float32 for a module without any."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


def blank_image(module: nn.Module, channels: int, sides: Sequence[int]) -> Tensor:
    """A ramp: not constant, so that normalisation layers have something to do."""
    count = channels * torch.Size(sides).numel()
    ramp = torch.linspace(-1, 1, count, device=network_device(module), dtype=torch.float32)
    return ramp.reshape(1, channels, *sides).to(network_dtype(module))


def probe_sides(spec: SegmenterSpec) -> tuple[int, ...]:
    """A small grid that the network takes: at least 32 and twice the divisor, never more than the window."""
    least = [max(2 * d, -(-LEAST_SIDE // d) * d) for d in spec.divisors]
    return tuple(min(side, n) for side, n in zip(spec.window, least, strict=True))


def network_failure(image: Tensor, error: Exception) -> ConfigError:
    """A network's own error on a blank image, in words that say how to describe the network better."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    said = lines[-1 if isinstance(error, torch.jit.Error) else 0].rstrip(".") if lines else ""
    failure = ConfigError(
        f"The network failed on an image of shape {tuple(image.shape)} ({type(error).__name__}: {said}); "
        "check channels, spatial_dims, divisor and window."
    )
    failure.__cause__ = error
    return failure


def find_divisor(module: nn.Module, channels: int, logit_channels: int, window: Sequence[int]) -> int:
    """What a network's grids must divide by: its own integer attribute `divisor`, or the smallest that works.

    Each candidate is tried on an odd multiple of itself, which no larger power of two divides, as far as that
    is small enough to try.

    Args:
        module: the network, in eval mode.
        channels: image channels.
        logit_channels: channels of the logits.
        window: a candidate must divide its sides; empty when the window is free.

    Raises:
        ConfigError: nothing up to 64 (32 in 3-D) works; holds what the network said last.
    """
    declared = getattr(module, "divisor", None)
    if isinstance(declared, int) and declared >= 1:
        return declared
    failure: ConfigError | None = None
    for divisor in DIVISORS[len(window)]:
        if any(side % divisor for side in window):
            continue
        sides = [_odd_multiple(divisor, side, LARGEST_SIDE[len(window)]) for side in window]
        image = blank_image(module, channels, sides)
        try:
            with torch.no_grad():
                output = module(image)
        except Exception as error:  # networks raise whatever their libraries raise
            failure = network_failure(image, error)
            continue
        try:
            main_logits(output, logit_channels, sides)
            return divisor
        except ConfigError as error:
            failure = error
            if any(tuple(t.shape[2:]) == tuple(sides) for t in _tensors(output)):
                break  # the grid is right, so no other divisor helps
    raise failure or ConfigError(f"No divisor fits window={tuple(window)}; pass divisor.")


def _odd_multiple(divisor: int, side: int, most: int) -> int:
    factor = max(3, -(-LEAST_SIDE // divisor) | 1)
    room = min(side, most) // divisor
    return divisor * (factor if factor <= room else room - (room > 2 and room % 2 == 0))


def main_logits(output: Any, logit_channels: int, grid: Sequence[int]) -> Tensor:
    """The full-resolution logits among what networks return, as float32.

    A tensor; a list, tuple or dictionary, of which the first tensor of the right shape counts (`out` and
    `logits` before other keys); or heads of deep supervision stacked along axis 1, of which the first is the
    finest.

    Raises:
        ConfigError: no tensor of the shape (batch, logit_channels, *grid).
    """
    found = list(_tensors(output))
    for tensor in found:
        stacked = tensor.dim() == len(grid) + 3
        logits = tensor[:, 0] if stacked else tensor
        if logits.dim() == len(grid) + 2 and tuple(logits.shape[1:]) == (logit_channels, *grid):
            return logits.float()
    shapes = ", ".join(str(tuple(t.shape)) for t in found[:5]) or f"no tensor but {type(output).__name__}"
    raise ConfigError(
        f"The network returned {shapes}, expected logits of shape (batch, {logit_channels}, "
        f"{', '.join(map(str, grid))}); check classes, link and divisor."
    )


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for key in sorted(value, key=lambda k: k not in ("out", "logits")):
            yield from _tensors(value[key])
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
