import numpy as np
import pytest
from scipy import ndimage

from sfumato.errors import InputError
from sfumato.methods.sample_difficulty.quality import FLOOR, image_quality


def phantom(slices: int = 6, side: int = 48, seed: int = 0) -> np.ndarray:
    """A smooth ball with some texture, in [0, 1]."""
    z, y, x = np.meshgrid(np.linspace(-1, 1, slices), *(np.linspace(-1.2, 1.2, side),) * 2, indexing="ij")
    ball = 1 / (1 + np.exp(12 * (np.sqrt(z**2 / 4 + y**2 + x**2) - 0.7)))
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=ball.shape), (0, 1.5, 1.5))
    return np.clip(0.1 + 0.7 * ball + 0.3 * texture * ball, 0, 1)[:, None]


def noisy(image: np.ndarray, level: float) -> np.ndarray:
    return np.clip(image + np.random.default_rng(1).normal(0, level, image.shape), 0, 1)


@pytest.mark.parametrize(
    "shape", [(1, 1, 5, 7), (1, 3, 64, 40), (9, 1, 33, 8), (40, 1, 16, 16), (2, 1, 1, 9)]
)
@pytest.mark.parametrize("fill", ["random", "constant", "zero"])
def test_the_names_are_always_the_same_and_the_numbers_finite(shape, fill):
    image = (
        np.random.default_rng(0).random(shape)
        if fill == "random"
        else np.full(shape, float(fill == "constant"))
    )
    found = image_quality(image)
    assert list(found) == list(image_quality(phantom()))
    assert np.isfinite(list(found.values())).all()


def test_tones_are_those_of_numpy():
    image = phantom(seed=3)
    found = image_quality(image)
    assert found["quantile0.25"] == pytest.approx(np.quantile(image, 0.25))
    assert found["mean"] == pytest.approx(image.mean())


def test_the_diagonal_detail_estimates_noise():
    # White noise of deviation s gives differences of deviation 2 s, whose absolute median is 0.6745 times that.
    image = np.random.default_rng(0).normal(0.5, 0.02, (3, 1, 128, 128))
    estimate = np.exp(image_quality(image)["detail_typical"]) - FLOOR
    assert estimate / (2 * 0.6745) == pytest.approx(0.02, rel=0.05)


def test_noise_and_blur_move_the_finest_band_apart():
    image = phantom()
    blurred = ndimage.gaussian_filter(image, (0, 0, 1.5, 1.5))
    energy = [
        image_quality(i)["band0_energy"] for i in (blurred, image, noisy(image, 0.05), noisy(image, 0.15))
    ]
    assert energy == sorted(energy)


def test_a_spectrum_is_shares_of_the_power():
    found = image_quality(phantom())
    shares = [np.exp(found[f"height_frequency{b}"]) - FLOOR for b in range(7)]
    # What varies more slowly than the lowest edge is in none of them.
    assert 0.1 < sum(shares) <= 1 + 1e-6
    wave = np.sin(2 * np.pi * 0.25 * np.arange(64))[None, None, :, None] * np.ones((1, 1, 1, 64)) / 2 + 0.5
    waving = image_quality(wave)
    assert np.exp(waving["height_frequency3"]) - FLOOR == pytest.approx(1, abs=1e-6)


def test_shading_shows_along_its_own_axis():
    flat = np.full((4, 1, 32, 32), 0.5)
    ramp = flat + 0.3 * np.linspace(-1, 1, 32)[None, None, :, None]
    found = image_quality(ramp)
    assert found["slope_y"] > 0.5 > 1e-6 > found["slope_x"]


def test_a_cut_field_of_view_empties_a_border():
    image = noisy(phantom(), 0.03)
    cut = image.copy()
    cut[:, :, :8] = 0
    assert image_quality(cut)["strip_emptiest"] < image_quality(image)["strip_emptiest"] - 1


def test_steps_between_slices_are_zero_for_a_picture():
    found = image_quality(phantom(slices=1))
    assert found["slice_step_energy"] == found["slice_bend_typical"] == 0.0


def test_other_axes_are_our_error():
    with pytest.raises(InputError, match="slices, channels, height, width"):
        image_quality(np.zeros((4, 8, 8)))
