"""Augmented planes against libjpeg and another library's blur."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from sfumato.methods.sam_gaps.augmentations import augmented, blur, jpeg, noise


def picture(sides: tuple[int, int], channels: int, seed: int = 0) -> np.ndarray:
    """Smooth grey levels (channels, height, width) uint8."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(channels, *sides)), (0, 2, 2))
    return ((smooth - smooth.min()) / np.ptp(smooth) * 255).round().astype(np.uint8)


def through_libjpeg(levels: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    image = Image.fromarray(levels[0] if len(levels) == 1 else levels.transpose(1, 2, 0))
    image.save(file, "JPEG", quality=quality, **({} if len(levels) == 1 else {"subsampling": 0}))
    read = np.asarray(Image.open(file))
    return (read[None] if read.ndim == 2 else read.transpose(2, 0, 1)).astype(int)


@pytest.mark.parametrize("quality", [10, 30, 60])
@pytest.mark.parametrize(("sides", "channels"), [((48, 64), 1), ((45, 61), 1), ((45, 61), 3)])
def test_jpeg_is_libjpeg_s_but_for_rounding(sides, channels, quality):
    levels = picture(sides, channels)
    found = (jpeg(torch.from_numpy(levels / 255).float(), quality) * 255).round().numpy().astype(int)
    expected = through_libjpeg(levels, quality)
    lost = np.abs(expected - levels).mean()
    assert lost > 0.3
    assert np.abs(found - expected).mean() < 0.15 * lost + 0.05


def test_lower_quality_loses_more():
    plane = torch.from_numpy(picture((64, 64), 1) / 255).float()
    lost = [float((jpeg(plane, q) - plane).abs().mean()) for q in (5, 10, 30, 60, 95)]
    assert lost == sorted(lost, reverse=True)
    flat = torch.full((1, 20, 20), 128 / 255)
    assert torch.equal(jpeg(flat, 10), flat)


def test_noise_has_the_paper_s_variance_and_is_a_function_of_the_seed():
    plane = torch.full((1, 300, 300), 0.5)
    drawn = (noise(plane, 0) - plane) * 255
    inside = drawn[drawn.abs() < 127]  # the rest was clipped
    free = torch.randn(10**6, generator=torch.Generator().manual_seed(1)) * 5000**0.5
    assert float(inside.var()) == pytest.approx(float(free[free.abs() < 127].var()), rel=0.02)
    assert torch.equal(noise(plane, 0), noise(plane, 0))
    assert not torch.equal(noise(plane, 0), noise(plane, 1))


def test_blur_is_another_library_s():
    plane = torch.from_numpy(picture((30, 41), 3) / 255)
    expected = ndimage.gaussian_filter(plane.numpy(), (0, 1.1, 1.1), mode="mirror", truncate=2 / 1.1)
    np.testing.assert_allclose(blur(plane).numpy(), expected, atol=1e-6)
    assert blur(torch.rand(1, 2, 2)).shape == (1, 2, 2)


@pytest.mark.parametrize("channels", [1, 3])
def test_five_planes_in_range(channels):
    plane = torch.from_numpy(picture((37, 50), channels) / 255).float()
    found = augmented(plane)
    assert len(found) == 5
    assert torch.equal(found["identity"], plane)
    for name, changed in found.items():
        assert changed.shape == plane.shape
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1
        assert (name == "identity") == torch.equal(changed, plane)
