"""Changes of a plane that a mask should not mind: JPEG, noise and blur, as in the paper's set T (section 3 there).

All are photometric, so a mask of the changed plane is compared as it is. JPEG's loss is made here (blocks of 8 x 8,
discrete cosine transform, the standard's example tables scaled as in libjpeg), because methods touch no image files:
the result is that of libjpeg but for rounding. Colour is kept at full resolution.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

BLOCK = 8
NOISE_VARIANCE = 5000.0
"""On the scale of 0 to 255."""
BLUR_TAPS, BLUR_SIGMA = 5, 1.1
"""Pixels; sigma = 0.3 ((taps - 1) / 2 - 1) + 0.8, the usual choice for so many taps."""
QUALITIES = 10, 30

LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
"""Quantisation of brightness, ITU-T T.81, table K.1."""
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
"""Quantisation of colour, table K.2."""
TO_COLOUR_DIFFERENCES = (
    (0.299, 0.587, 0.114),
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
"""From red, green and blue to Y, Cb and Cr (JFIF)."""


def augmented(
    plane: Float[Tensor, "channels height width"], seed: int = 0
) -> dict[str, Float[Tensor, "channels height width"]]:
    """The plane itself (`identity`, first) and four changed ones, all in [0, 1], by name.

    Args:
        plane: in [0, 1], one channel or three.
        seed: of the noise.

    Example:
        >>> list(augmented(torch.zeros(1, 16, 16)))
        ['identity', 'jpeg 10', 'jpeg 30', 'noise', 'blur']
    """
    found = {"identity": plane}
    found |= {f"jpeg {quality}": jpeg(plane, quality) for quality in QUALITIES}
    return found | {"noise": noise(plane, seed), "blur": blur(plane)}


def noise(plane: Float[Tensor, "channels height width"], seed: int) -> Float[Tensor, "channels height width"]:
    """Gaussian noise of variance 5000 on the scale of 0 to 255, clipped to [0, 1]; a function of the seed."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(plane.shape, generator=generator).to(plane)
    return (plane + drawn * math.sqrt(NOISE_VARIANCE) / 255).clamp(0, 1)


def blur(plane: Float[Tensor, "channels height width"]) -> Float[Tensor, "channels height width"]:
    """Gaussian of 5 x 5 taps; the border is mirrored, or repeated where the plane is too small for that."""
    away = torch.arange(BLUR_TAPS, dtype=plane.dtype, device=plane.device) - BLUR_TAPS // 2
    taps = torch.exp(-away.square() / (2 * BLUR_SIGMA**2))
    kernel = torch.outer(taps, taps) / taps.sum().square()
    reach = BLUR_TAPS // 2
    mode = "reflect" if min(plane.shape[-2:]) > reach else "replicate"
    wide = F.pad(plane[:, None], (reach,) * 4, mode=mode)
    return F.conv2d(wide, kernel[None, None])[:, 0].clamp(0, 1)


def jpeg(
    plane: Float[Tensor, "channels height width"], quality: int
) -> Float[Tensor, "channels height width"]:
    """What a JPEG file of this quality, 1 to 100, would leave of the plane."""
    levels = (plane.double() * 255).round()
    if len(plane) != 3:
        kept = torch.stack([_through_blocks(channel - 128, LUMINANCE, quality) for channel in levels]) + 128
    else:
        turn = torch.tensor(TO_COLOUR_DIFFERENCES, dtype=levels.dtype, device=levels.device)
        shift = levels.new_tensor([128.0, 0.0, 0.0])[:, None, None]
        differences = torch.einsum("ij,jhw->ihw", turn, levels).round() - shift
        tables = LUMINANCE, CHROMINANCE, CHROMINANCE
        lossy = [_through_blocks(c, t, quality) for c, t in zip(differences, tables, strict=True)]
        kept = torch.einsum("ij,jhw->ihw", torch.linalg.inv(turn), torch.stack(lossy) + shift)
    return (kept.round().clamp(0, 255) / 255).to(plane.dtype)


def _through_blocks(channel: Tensor, table: tuple[tuple[int, ...], ...], quality: int) -> Tensor:
    """(height, width) around 0, quantised in the frequencies of blocks and back."""
    height, width = channel.shape
    below, right = -height % BLOCK, -width % BLOCK
    filled = F.pad(channel[None, None], (0, right, 0, below), mode="replicate")[0, 0]
    blocks = filled.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
    basis = _cosines().to(channel)
    steps = _steps(table, quality).to(channel)
    kept = ((basis @ blocks @ basis.T) / steps).round() * steps
    restored = (basis.T @ kept @ basis).round()
    return restored.transpose(1, 2).reshape(filled.shape)[:height, :width]


def _cosines() -> Float[Tensor, "8 8"]:
    """Orthonormal discrete cosine transform, one frequency per row."""
    place = torch.arange(BLOCK, dtype=torch.float64)
    basis = torch.cos(math.pi * (2 * place[None] + 1) * place[:, None] / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis


def _steps(table: tuple[tuple[int, ...], ...], quality: int) -> Float[Tensor, "8 8"]:
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    base = torch.tensor(table, dtype=torch.float64)
    return ((base * scale + 50) / 100).floor().clamp(1, 255)
