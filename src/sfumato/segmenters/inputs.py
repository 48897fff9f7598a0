"""From slices of any size, one channel or three, to what a network takes; and its maps back to the image's part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..errors import ConfigError, InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RANGE_TOLERANCE = 1e-4
"""How far outside of [0, 1] rounding may put an intensity."""


def check_slices(slices: Float[Tensor, "slices channels height width"]) -> None:
    """Refuse what no extractor takes.

    Raises:
        InputError: not (slices, 1 or 3, height, width), empty, not finite, or outside of [0, 1].
    """
    if slices.dim() != 4 or slices.shape[1] not in (1, 3) or 0 in slices.shape:
        raise InputError(
            f"Slices of shape {tuple(slices.shape)}, expected (slices, 1 or 3 channels, height, width); choose "
            "one channel of an image that has others."
        )
    low, high = (float(v) for v in torch.aminmax(slices.detach()))
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):
        raise InputError(
            f"Intensities from {low:.4g} to {high:.4g}, expected finite numbers in [0, 1]; window them first."
        )


def three_channels(
    slices: Float[Tensor, "slices channels height width"],
) -> Float[Tensor, "slices 3 height width"]:
    """Checked slices; a single channel is repeated.

    Raises:
        InputError: see `check_slices`.
    """
    check_slices(slices)
    return slices.float().expand(-1, 3, -1, -1)


def fitted_sides(sides: Sequence[int], longer: int, multiple: int = 1) -> tuple[int, int]:
    """Sides after scaling so that the longer one is `longer`; each is rounded to a multiple, at least one.

    Example:
        >>> fitted_sides((36, 50), 224, 32), fitted_sides((100, 3), 224, 32)
        ((160, 224), (224, 32))
    """
    height, width = (max(1, int(n * longer / max(sides) / multiple + 0.5)) * multiple for n in sides)
    return height, width


def check_side(side: int, multiple: int) -> None:
    """Refuse a longer side that the network cannot divide into its grid.

    Raises:
        ConfigError: not a positive multiple.
    """
    if side < multiple or side % multiple:
        raise ConfigError(f"side={side}, expected a positive multiple of {multiple}.")


def resized(
    slices: Float[Tensor, "slices channels height width"], sides: tuple[int, int]
) -> Float[Tensor, "slices channels rows columns"]:
    """Bilinear, with a low-pass filter where the image gets smaller."""
    if tuple(slices.shape[2:]) == sides:
        return slices
    return F.interpolate(slices, size=sides, mode="bilinear", antialias=True, align_corners=False)


def normalised(
    slices: Float[Tensor, "slices 3 height width"],
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Float[Tensor, "slices 3 height width"]:
    """(intensity - mean) / std per channel, for intensities in [0, 1]."""
    shape = (1, len(mean), 1, 1)
    return (slices - slices.new_tensor(mean).reshape(shape)) / slices.new_tensor(std).reshape(shape)


def padded(
    image: Float[Tensor, "batch channels *grid"], sides: Sequence[int]
) -> Float[Tensor, "batch channels *sides"]:
    """Zeros after the image along every axis, up to the given sides."""
    missing = [side - n for n, side in zip(image.shape[2:], sides, strict=True)]
    return F.pad(image, [n for gap in reversed(missing) for n in (0, gap)])


def content(
    maps: Float[Tensor, "batch feature_width *coarse"], shown: Sequence[int], sides: Sequence[int]
) -> Float[Tensor, "batch feature_width *shown_coarse"]:
    """The part of a padded input's maps that shows the image: what lies in the padding says nothing about it.

    Args:
        maps: of an input of the given sides.
        shown: sides of the image inside it, from the first corner.
        sides: of the input.

    Example:
        >>> content(torch.zeros(1, 1, 64, 64), shown=(738, 1024), sides=(1024, 1024)).shape
        torch.Size([1, 1, 47, 64])
    """
    kept = [-(-n * cells // side) for n, cells, side in zip(shown, maps.shape[2:], sides, strict=True)]
    return maps[(slice(None), slice(None), *map(slice, kept))]


def in_chunks(
    slices: Tensor, size: int, function: Callable[[Tensor], Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Run a network on a few slices at a time, without gradient, so that memory does not grow with their number."""
    with torch.no_grad():
        parts = [function(part) for part in slices.split(size)]
        return {name: torch.cat([part[name].float().cpu() for part in parts]) for name in parts[0]}
