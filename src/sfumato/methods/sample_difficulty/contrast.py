"""Whether the image has an edge where a label draws one: no model needed, and higher = more doubtful.

A label that was shifted, or grown by a reader, lies where the image changes little. Distances are in voxels of the
finest axis; thick slices are farther apart than the shells are wide, so there all happens within slices. A boundary has
no sign: two classes that have exchanged their names as a whole look as they did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ...errors import InputError

WIDTH = 2.0
"""How thick the shells in and outside the boundary are."""
AWAY = 3.0
"""How far in and outside the boundary its gradient is compared with."""
SMOOTHING = 1.0
"""Standard deviation of the Gaussian that gradients are taken of."""
THICK = 2.0
"""An axis whose voxels are longer than this many of the finest is one of thick slices; no gradient along it."""


@dataclass(frozen=True)
class BoundaryContrast:
    """One case; numbers are in [0, 1], NaN where undefined.

    Args:
        step: (classes - 1,) noise / (noise + step) of every foreground class: step is the difference of the mean
            intensities of the shells in and outside the boundary, noise the root of the mean of their variances. Of
            several channels the one that shows the boundary best. 0 is a clean edge, 1 none.
        alignment: (classes - 1,) away / (away + here): mean gradient magnitude on the voxels at both sides of the
            boundary (here), and those `AWAY` in and outside (away). 0.5 says that the boundary is not special.
        mean_step: over the classes.
        mean_alignment: over the classes.
    """

    step: Float[np.ndarray, "foreground"]
    alignment: Float[np.ndarray, "foreground"]
    mean_step: float
    mean_alignment: float


def boundary_contrast(
    image: Float[np.ndarray, "channels *grid"],
    label: Int[np.ndarray, "*grid"],
    classes: int,
    spacing: Sequence[float] | None = None,
) -> BoundaryContrast:
    """Compare a label's boundaries with the image's edges.

    Args:
        image: intensities in any unit: a brighter image, or one of more contrast, has the same numbers.
        label: class per voxel; below 0 is unknown and in no shell.
        classes: number of classes, background included.
        spacing: voxel size per axis; 1 by default.

    Raises:
        InputError: shapes or a spacing that do not fit, or an image that is not finite.

    Example:
        >>> rows, columns = np.mgrid[:24, :24]
        >>> disc = ((rows - 12) ** 2 + (columns - 12) ** 2 < 40).astype(int)
        >>> image = disc[None] + 0.1 * np.random.default_rng(0).normal(size=(1, 24, 24))
        >>> right, wrong = (boundary_contrast(image, np.roll(disc, by, axis=0), 2) for by in (0, 4))
        >>> bool(right.mean_step < 0.15 and right.mean_alignment < 0.25)
        True
        >>> bool(wrong.mean_step > 2 * right.mean_step and wrong.mean_alignment > right.mean_alignment)
        True
    """
    size = np.ones(label.ndim) if spacing is None else np.asarray(spacing, float)
    if image.shape[1:] != label.shape or size.shape != (label.ndim,) or not (size > 0).all():
        raise InputError(
            f"image {image.shape}, label {label.shape}, spacing {spacing}: expected (channels, *grid), (*grid) and "
            "one positive number per axis."
        )
    if not np.isfinite(image).all():
        raise InputError("an image with NaN or infinite voxels, expected finite ones; clean it first.")
    size = size / size.min()
    gradient = _gradient(image.astype(np.float64), size)
    found = [_of_class(image, gradient, label, number, size) for number in range(1, classes)]
    step, alignment = np.array(found).reshape(-1, 2).T
    return BoundaryContrast(step, alignment, _mean(step), _mean(alignment))


def _of_class(
    image: np.ndarray, gradient: np.ndarray, label: np.ndarray, number: int, size: np.ndarray
) -> tuple[float, float]:
    """Step and alignment of one class, from its surroundings alone."""
    from scipy import ndimage

    mask = label == number
    if not mask.any():
        return float("nan"), float("nan")
    margin = int(np.ceil(max(WIDTH, AWAY + 1))) + 1
    place = ndimage.find_objects(mask.astype(np.uint8))[0]
    box = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in place)
    mask, known, image, gradient = mask[box], label[box] >= 0, image[(slice(None), *box)], gradient[box]
    if (mask | ~known).all():
        return float("nan"), float("nan")
    # An edge towards the unknown is not one that was drawn.
    depth = np.asarray(ndimage.distance_transform_edt(mask | ~known, sampling=size))
    height = np.asarray(ndimage.distance_transform_edt(~mask, sampling=size))
    inside, outside = np.where(mask, depth, np.inf), np.where(mask | ~known, np.inf, height)
    step = _step(image[:, inside <= WIDTH], image[:, outside <= WIDTH])
    here = gradient[(inside <= 1) | (outside <= 1)]
    bands = [gradient[(d > AWAY) & (d <= AWAY + 1)] for d in (inside, outside)]
    away = [float(band.mean()) for band in bands if len(band)]
    return step, _share(float(np.mean(away)), float(here.mean())) if away else float("nan")


def _step(inner: np.ndarray, outer: np.ndarray) -> float:
    """noise / (noise + step) of the channel where it is lowest; of (channels, voxels) in and outside."""
    if not inner.shape[1] or not outer.shape[1]:
        return float("nan")
    noise = np.sqrt((inner.var(axis=1, dtype=np.float64) + outer.var(axis=1, dtype=np.float64)) / 2)
    step = np.abs(inner.mean(axis=1, dtype=np.float64) - outer.mean(axis=1, dtype=np.float64))
    shares = [_share(float(n), float(s)) for n, s in zip(noise, step, strict=True)]
    return min((share for share in shares if share == share), default=float("nan"))


def _share(doubt: float, evidence: float) -> float:
    """doubt / (doubt + evidence); NaN where there is neither."""
    return doubt / (doubt + evidence) if doubt + evidence > 0 else float("nan")


def _gradient(image: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Gradient magnitude (*grid) of the channels, each in units of its range (0.5 to 99.5 percentile)."""
    from scipy import ndimage

    squares = np.zeros(image.shape[1:])
    fine = [axis for axis, step in enumerate(size) if step <= THICK and image.shape[axis + 1] > 1]
    for channel in image:
        low, high = np.percentile(channel, (0.5, 99.5))
        scaled = (channel - low) / (high - low if high > low else 1.0)
        for axis in fine:
            slope = scaled
            for other in fine:
                width, order = SMOOTHING / size[other], int(other == axis)
                slope = np.asarray(
                    ndimage.gaussian_filter1d(slope, width, axis=other, order=order, mode="nearest")
                )
            squares += (slope / size[axis]) ** 2
    return np.sqrt(squares)


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
