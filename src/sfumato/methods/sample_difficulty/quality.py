"""Some ninety numbers on how an image looks, whatever it shows: tones, texture at five scales, edges, spectra, shading.

Noise, blur, ghosts, a coil's shading, another contrast or a cut field of view each move some of them; anatomy moves
others. They are computed, not learnt, and cost a few milliseconds a slice. In the spirit of the no-reference quality
measures of MR (Esteban et al., MRIQC, PLOS ONE 2017), from which the entropy focus criterion is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from ...errors import InputError

MOST_SLICES = 24
"""Slices looked at, evenly spread; a whole trunk's say no more."""
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SCALES = (0.6, 1.2, 2.4, 4.8, 9.6)
"""Standard deviations in pixels; the bands lie between neighbouring ones."""
FREQUENCIES = (0.02, 0.06, 0.12, 0.2, 0.28, 0.36, 0.44, 0.5)
"""Edges of the bands of a spectrum, cycles per pixel."""
LEAST_SIDE = 8
"""Shorter axes have no spectrum worth the name."""
FLOOR = 1e-5
"""Added before logarithms: a hundred thousandth of the window's width."""

Named = Iterator[tuple[str, float]]


def image_quality(slices: Float[np.ndarray, "slices channels height width"]) -> dict[str, float]:
    """The numbers by name, always the same names in the same order; finite.

    Args:
        slices: intensities in [0, 1], as `sfumato.pipeline.slices.image_slices` gives them.

    Raises:
        InputError: other axes, or nothing in them.

    Example:
        >>> noise = np.random.default_rng(0).random((1, 1, 32, 32))
        >>> smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
        >>> image_quality(noise)["band0_energy"] > image_quality(smooth)["band0_energy"]
        True
    """
    if slices.ndim != 4 or 0 in slices.shape:
        raise InputError(f"Slices of shape {slices.shape}, expected (slices, channels, height, width).")
    picked = np.linspace(0, len(slices) - 1, min(len(slices), MOST_SLICES)).round().astype(int)
    grey = slices.mean(axis=1, dtype=np.float64)
    stack = grey[picked]
    named = dict(_tones(stack))
    named |= dict(_bands(stack))
    named |= dict(_edges(stack))
    named |= dict(_across(grey, picked))
    for axis, side in ((1, "height"), (2, "width")):
        named |= {f"{side}_{name}": value for name, value in _spectrum(stack, axis)}
    return named | dict(_shading(stack)) | dict(_borders(stack))


def _tones(stack: np.ndarray) -> Named:
    """The histogram: quantiles, moments, clipped shares, and how focused the energy is."""
    values = stack.ravel()
    for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True):
        yield f"quantile{share:g}", float(value)
    deviation = values.std() + FLOOR
    centred = values - values.mean()
    yield "mean", float(values.mean())
    yield "deviation", float(deviation)
    yield "skewness", float((centred**3).mean() / deviation**3)
    yield "kurtosis", float((centred**4).mean() / deviation**4)
    yield "share_lowest", float((values <= values.min() + 1e-3).mean())
    yield "share_highest", float((values >= values.max() - 1e-3).mean())
    relative = values / (np.sqrt((values**2).sum()) + FLOOR)
    most = np.sqrt(len(values)) * np.log(np.sqrt(len(values)) + 1)
    yield "entropy_focus", float(-(relative * np.log(np.abs(relative) + 1e-12)).sum() / most)


def _bands(stack: np.ndarray) -> Named:
    """Differences of Gaussians within slices: energy, typical, quiet and strong response of each band."""
    finer = stack
    for number, scale in enumerate(SCALES):
        coarser = ndimage.gaussian_filter(stack, (0, scale, scale), mode="nearest", truncate=3)
        response = np.abs(finer - coarser)
        finer = coarser
        yield f"band{number}_energy", _log(np.sqrt((response**2).mean()))
        for name, share in (("quiet", 0.1), ("typical", 0.5), ("strong", 0.99)):
            yield f"band{number}_{name}", _log(np.quantile(response, share))


def _edges(stack: np.ndarray) -> Named:
    """Neighbouring pixels: steps along each side, and the diagonal detail that noise dominates (Donoho, 1995)."""
    for axis, side in ((1, "height"), (2, "width")):
        step = np.abs(np.diff(stack, axis=axis)) if stack.shape[axis] > 1 else np.zeros(1)
        yield f"{side}_step_energy", _log(np.sqrt((step**2).mean()))
        yield f"{side}_step_typical", _log(np.median(step))
    if min(stack.shape[1:]) > 1:
        detail = stack[:, 1:, 1:] - stack[:, :-1, 1:] - stack[:, 1:, :-1] + stack[:, :-1, :-1]
    else:
        detail = np.zeros(1)
    squared = (detail**2).mean()
    yield "detail_typical", _log(np.median(np.abs(detail)))
    yield "detail_kurtosis", float(np.log1p((detail**4).mean() / (squared**2 + FLOOR**4)))


def _across(grey: np.ndarray, picked: np.ndarray) -> Named:
    """From slice to slice; 0 for a picture."""
    first, second = picked[picked + 1 < len(grey)], picked[(picked > 0) & (picked + 1 < len(grey))]
    step = np.abs(grey[first + 1] - grey[first])
    bend = np.abs(grey[second + 1] - 2 * grey[second] + grey[second - 1])
    yield "slice_step_energy", _log(np.sqrt((step**2).mean())) if step.size else 0.0
    yield "slice_step_typical", _log(np.median(step)) if step.size else 0.0
    yield "slice_bend_typical", _log(np.median(bend)) if bend.size else 0.0


def _spectrum(stack: np.ndarray, axis: int) -> Named:
    """Share of each band of the power spectrum along one side, and how ragged the spectrum is (a comb of ghosts is)."""
    count, edges = stack.shape[axis], np.array(FREQUENCIES)
    bands = len(edges) - 1
    if count < LEAST_SIDE:
        yield from ((f"frequency{b}", 0.0) for b in range(bands))
        yield from (("ragged", 0.0), ("bent", 0.0))
        return
    transformed = np.fft.rfft(stack - stack.mean(axis=axis, keepdims=True), axis=axis)
    power = (np.abs(transformed) ** 2).mean(axis=tuple(a for a in range(3) if a != axis))
    frequency = np.fft.rfftfreq(count)
    total = power.sum() + FLOOR**2
    band = np.searchsorted(edges, frequency, side="right") - 1
    band = np.where(frequency >= edges[-1], bands - 1, band)
    shares = np.bincount(band[band >= 0], weights=power[band >= 0], minlength=bands) / total
    for number, share in enumerate(shares[:bands]):
        yield f"frequency{number}", _log(float(share))
    logarithm = np.log(power[1:] + FLOOR**2)
    yield "ragged", float(np.std(logarithm - ndimage.median_filter(logarithm, 3)))
    yield "bent", float(np.std(np.diff(logarithm, 2)))


def _shading(stack: np.ndarray) -> Named:
    """Slow changes of brightness: of the whole along low polynomials, and of bright tissue in log intensity."""
    rows, columns = (np.linspace(-1, 1, n) for n in stack.shape[1:])
    high, wide = np.meshgrid(rows, columns, indexing="ij")
    through = np.linspace(-1, 1, len(stack)) if len(stack) > 1 else np.zeros(1)
    mean, level = stack.mean(axis=0), stack.mean() + 1e-3
    shapes = {"y": high, "x": wide, "xy": high * wide, "yy": high**2 - 1 / 3, "xx": wide**2 - 1 / 3}
    for name, shape in shapes.items():
        size = (shape**2).mean()
        yield f"slope_{name}", float(abs((mean * shape).mean()) / (size + FLOOR) / level)
    tissue = stack > np.median(stack)
    logarithm = np.log(np.maximum(stack, 0.05))
    for name, shape in {"y": high[None], "x": wide[None], "z": through[:, None, None]}.items():
        where = np.broadcast_to(shape, stack.shape)[tissue]
        centred = where - where.mean() if where.size else where
        yield f"tissue_slope_{name}", float(abs((centred * logarithm[tissue]).mean())) if where.size else 0.0
    coarse = ndimage.gaussian_filter(stack, (0, SCALES[-1], SCALES[-1]), mode="nearest", truncate=3)
    yield "coarse_deviation", _log(coarse.std())


def _borders(stack: np.ndarray) -> Named:
    """The outer sixths: the darkest, brightest and emptiest of them, and the noise of the darkest tenth."""
    high, wide = (max(1, n // 6) for n in stack.shape[1:])
    strips = [stack[:, :high], stack[:, -high:], stack[:, :, :wide], stack[:, :, -wide:]]
    level = stack.mean() + 1e-3
    yield "strip_darkest", float(min(strip.mean() for strip in strips) / level)
    yield "strip_brightest", float(max(strip.mean() for strip in strips) / level)
    yield "strip_emptiest", _log(min(strip.std() for strip in strips))
    ends = max(1, len(stack) // 6)
    yield "end_emptiest", _log(min(stack[:ends].std(), stack[-ends:].std())) if len(stack) > 5 else 0.0
    yield "dark_noise", _log(stack[stack <= np.quantile(stack, 0.1)].std())


def _log(value: float) -> float:
    return float(np.log(value + FLOOR))
