"""Images made worse on purpose, to see how a method behaves under shift: seeded, three severities, the label untouched.

Strengths are shares of the image's own range (0.5 to 99.5 percentile) or voxels, so they mean the same on any scanner.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..errors import ConfigError, UnknownNameError
from ..imaging import Image

SEVERITIES = (1, 2, 3)
"""Mild, middle, severe."""
Change = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
"""(one channel (*grid) scaled to about [0, 1], strength, generator) -> the same, changed."""


def add_noise(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise of this standard deviation, a share of the image's range."""
    return channel + rng.normal(0.0, strength, channel.shape)


def blur(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian of this standard deviation in voxels."""
    return ndimage.gaussian_filter(channel, strength, mode="nearest")


def add_bias(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth multiplicative field, exp(strength f) with f in [-1, 1]: random half waves along each axis."""
    field = np.zeros(channel.shape)
    for axis, n in enumerate(channel.shape):
        phase = np.pi * (np.arange(n) + 0.5) / n
        wave = rng.uniform(-1, 1) * np.cos(phase) + rng.uniform(-1, 1) * np.sin(phase)
        field += wave.reshape([-1 if a == axis else 1 for a in range(channel.ndim)])
    field -= field.mean()
    return channel * np.exp(strength * field / max(float(np.abs(field).max()), 1e-12))


def add_ghosts(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Every third line of k-space along a random axis scaled by 1 - strength, its centre kept: faint copies."""
    axis = int(rng.integers(channel.ndim))
    n = channel.shape[axis]
    lines = np.ones(n)
    lines[int(rng.integers(3)) :: 3] = 1 - strength
    lines[np.abs(np.fft.fftfreq(n)) < 1 / max(n, 32)] = 1.0
    shape = [-1 if a == axis else 1 for a in range(channel.ndim)]
    return np.abs(np.fft.ifft(np.fft.fft(channel, axis=axis) * lines.reshape(shape), axis=axis))


def add_motion(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Half of the lines of k-space, in two bands, taken after the patient has moved by this many voxels."""
    axis = int(rng.integers(channel.ndim))
    direction = rng.normal(size=channel.ndim)
    moved = ndimage.shift(channel, strength * direction / np.linalg.norm(direction), order=1, mode="nearest")
    frequency = np.fft.fftfreq(channel.shape[axis])
    late = (frequency > 0.02) & (frequency < 0.27) | (frequency < -0.27)
    shape = [-1 if a == axis else 1 for a in range(channel.ndim)]
    mixed = np.where(late.reshape(shape), np.fft.fft(moved, axis=axis), np.fft.fft(channel, axis=axis))
    return np.abs(np.fft.ifft(mixed, axis=axis))


def change_contrast(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A gamma curve: exponent strength or its inverse, at random."""
    exponent = strength if rng.random() < 0.5 else 1 / strength
    return np.clip(channel, 0, 1) ** exponent


def lower_resolution(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Sampled this many times more coarsely along every axis, and interpolated back."""
    coarse = [max(2, round(n / strength)) if n > 2 else n for n in channel.shape]
    small = ndimage.zoom(channel, [c / n for c, n in zip(coarse, channel.shape, strict=True)], order=1)
    back = [n / c for c, n in zip(small.shape, channel.shape, strict=True)]
    return np.asarray(ndimage.zoom(small, back, order=1))


def invert(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """The brightest share of the range turned over within itself, as where a contrast agent shows dark; 1 turns all."""
    # Clipped, or the few voxels below the range would stay dark in an image that is turned over as a whole.
    inside = np.clip(channel, 0, 1)
    return np.where(inside >= 1 - strength, 2 - strength - inside, channel)


def crop(channel: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A field of view that is too narrow: this share of what the image shows along a random axis, at a random end,
    is as dark as what lies beyond."""
    axis, at_end = int(rng.integers(channel.ndim)), rng.random() < 0.5
    # A rim that is dark already shows nothing and counts for nothing.
    shown = np.flatnonzero((channel > 0).any(axis=tuple(a for a in range(channel.ndim) if a != axis)))
    first, last = (shown[0], shown[-1]) if len(shown) else (0, channel.shape[axis] - 1)
    lost = max(1, round(strength * int(last - first + 1)))
    band = slice(last + 1 - lost, None) if at_end else slice(first + lost)
    cut = channel.copy()
    cut[tuple(band if a == axis else slice(None) for a in range(channel.ndim))] = 0.0
    return cut


CORRUPTIONS: dict[str, tuple[Change, tuple[float, float, float]]] = {
    "noise": (add_noise, (0.04, 0.08, 0.16)),
    "blur": (blur, (0.7, 1.4, 2.5)),
    "bias": (add_bias, (0.3, 0.6, 1.0)),
    "ghost": (add_ghosts, (0.2, 0.4, 0.7)),
    "motion": (add_motion, (1.0, 2.5, 5.0)),
    "contrast": (change_contrast, (1.3, 1.8, 2.6)),
    "resolution": (lower_resolution, (1.5, 2.0, 3.0)),
    "inversion": (invert, (0.25, 0.5, 1.0)),
    "crop": (crop, (0.1, 0.2, 0.35)),
}
"""Name -> function and its strength at the three severities."""


def corrupt_image(image: Image, name: str, severity: int, seed: int = 0) -> Image:
    """The image with one corruption; a function of what is passed alone.

    Args:
        image: as read; its type is kept, values are clipped to it.
        name: one of `CORRUPTIONS`.
        severity: 1 mild, 2 middle, 3 severe.
        seed: of what is random in it.

    Raises:
        UnknownNameError: no such corruption.
        ConfigError: another severity.

    Example:
        >>> from sfumato.imaging import Geometry
        >>> flat = Image(np.full((1, 8, 8), 5.0, np.float32), Geometry((8, 8)), "flat")
        >>> bool(np.allclose(corrupt_image(flat, "blur", 2).array, 5.0))
        True
    """
    if severity not in SEVERITIES:
        raise ConfigError(f"severity={severity}, expected one of {', '.join(map(str, SEVERITIES))}.")
    if name not in CORRUPTIONS:
        raise UnknownNameError("corruption", name, CORRUPTIONS)
    change, strengths = CORRUPTIONS[name]
    # Without the severity: a severe case is the mild one, made worse.
    digest = hashlib.sha256(f"{image.name} {name}".encode()).digest()
    changed = []
    for number, channel in enumerate(image.array):
        # Noise is another in every channel; a field, a movement or a ghost is the same in all.
        rng = np.random.default_rng([seed, *digest[:8], number if name == "noise" else 0])
        low, high = np.percentile(channel, (0.5, 99.5))
        span = float(high - low) or 1.0
        scaled = change((channel.astype(np.float64) - low) / span, strengths[severity - 1], rng)
        changed.append(scaled[tuple(slice(n) for n in channel.shape)] * span + low)
    return replace(image, array=_as_type(np.stack(changed), image.array.dtype))


def _as_type(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return np.clip(np.rint(values), limits.min, limits.max).astype(kind)
    return values.astype(kind)


def parse_corruptions(text: str, severities: str = "1,2,3") -> list[tuple[str, int]]:
    """`noise,blur` and `1,3` as pairs of name and severity.

    Raises:
        UnknownNameError: no such corruption.
        ConfigError: not severities.

    Example:
        >>> parse_corruptions("noise,blur", "2")
        [('noise', 2), ('blur', 2)]
    """
    names = _words(text)
    for name in names:
        if name not in CORRUPTIONS:
            raise UnknownNameError("corruption", name, CORRUPTIONS)
    levels = _words(severities)
    if any(level not in map(str, SEVERITIES) for level in levels):
        raise ConfigError(f"severities {severities!r}, expected numbers from 1 to 3 separated by commas.")
    return [(name, int(level)) for name in names for level in levels]


def _words(text: str) -> Sequence[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
