"""Changes of an image that a segmentation should not mind, each with its inverse on the probability."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ...errors import ConfigError
from .config import TestTimeAugmentationConfig
from .rotation import rotate, rotate_back

Change = Callable[[Tensor], Tensor]
"""Image -> image, row by row."""
Restore = Callable[[Tensor, Tensor], Tensor]
"""(probability of the changed image, probability of the image) -> probability on the image's grid."""


@dataclass(frozen=True)
class Augmentation:
    """A change of the image and the way back.

    Args:
        name: for people.
        change: of the image.
        restore: of the probability; the second argument fills what the changed image did not show.
    """

    name: str
    change: Change
    restore: Restore


def make_augmentations(config: TestTimeAugmentationConfig, dims: int) -> list[Augmentation]:
    """All that the settings list, without the identity.

    Args:
        config: the settings.
        dims: grid axes.

    Raises:
        ConfigError: a flip of an axis that is not there.
    """
    axes = tuple(range(dims)) if config.flips is None else config.flips
    if not set(axes) <= set(range(dims)):
        raise ConfigError(f"flips={axes}, expected axes from 0 to {dims - 1}.")
    return [
        *(flip(axis) for axis in axes),
        *(rotation(degrees) for degrees in config.rotations),
        *(intensity(f"gain {g:g}", lambda x, g=g: gain(x, g)) for g in config.gains),
        *(intensity(f"shift {s:g}", lambda x, s=s: shift(x, s)) for s in config.shifts),
        *(intensity(f"gamma {e:g}", lambda x, e=e: gamma(x, e)) for e in config.gammas),
    ]


def flip(axis: int) -> Augmentation:
    """Mirror a grid axis; exact, and its own inverse."""
    return Augmentation(f"flip of axis {axis}", lambda x: x.flip(2 + axis), lambda p, _: p.flip(2 + axis))


def rotation(degrees: float) -> Augmentation:
    """Turn in the plane of the first two axes, see `rotation.rotate`."""
    return Augmentation(
        f"rotation by {degrees:g} degrees",
        lambda x: rotate(x, degrees),
        lambda p, identity: rotate_back(p, degrees, identity),
    )


def intensity(name: str, change: Change) -> Augmentation:
    """A change of intensities: nothing moves."""
    return Augmentation(name, change, lambda p, _: p)


def gain(
    image: Float[Tensor, "batch channels *grid"], factor: float
) -> Float[Tensor, "batch channels *grid"]:
    """mean + factor (x - mean), the mean over the row."""
    mean = _over_row(image, Tensor.mean)
    return mean + factor * (image - mean)


def shift(
    image: Float[Tensor, "batch channels *grid"], share: float
) -> Float[Tensor, "batch channels *grid"]:
    """x + share * standard deviation of the row."""
    return image + share * _over_row(image, lambda v, dim: v.std(dim=dim, unbiased=False))


def gamma(
    image: Float[Tensor, "batch channels *grid"], exponent: float
) -> Float[Tensor, "batch channels *grid"]:
    """low + (high - low) ((x - low) / (high - low))^exponent, low and high the row's extremes; a flat row stays."""
    low, high = _over_row(image, Tensor.amin), _over_row(image, Tensor.amax)
    span = high - low
    share = ((image - low) / span.clamp_min(1e-30)).clamp(0, 1)
    return low + span * share.pow(exponent)


def _over_row(image: Tensor, reduce: Callable[..., Tensor]) -> Tensor:
    return reduce(image.flatten(1), dim=1).reshape(-1, *[1] * (image.dim() - 1))
