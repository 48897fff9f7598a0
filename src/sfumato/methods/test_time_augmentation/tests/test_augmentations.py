from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from sfumato.errors import ConfigError
from sfumato.methods.test_time_augmentation import TestTimeAugmentationConfig
from sfumato.methods.test_time_augmentation.augmentations import flip, gain, gamma, make_augmentations, shift
from sfumato.methods.test_time_augmentation.rotation import in_view, rotate, rotate_back

GRIDS = [(9, 14), (8, 11, 6)]


def image(grid, rows=2, seed=0):
    return torch.randn(rows, 2, *grid, generator=torch.Generator().manual_seed(seed)) * 2 + 5


@pytest.mark.parametrize("grid", GRIDS)
def test_flips_are_exact_there_and_back(grid):
    x = image(grid)
    for axis in range(len(grid)):
        augmentation = flip(axis)
        assert not torch.equal(augmentation.change(x), x)
        assert torch.equal(augmentation.restore(augmentation.change(x), x), x)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("degrees", [-10.0, 10.0, 30.0])
def test_rotation_is_another_interpolator_s(grid, degrees):
    x = image(grid)
    places = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in grid), indexing="ij"))
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    centre = [(n - 1) / 2 for n in grid]
    a, b = places[0] - centre[0], places[1] - centre[1]
    turned = [centre[0] + c * a - s * b, centre[1] + s * a + c * b, *places[2:]]
    found = rotate(x, degrees).numpy()
    for row in range(2):
        for channel in range(2):
            expected = ndimage.map_coordinates(x[row, channel].numpy(), turned, order=1, mode="nearest")
            np.testing.assert_allclose(found[row, channel], expected, atol=1e-4)


@pytest.mark.parametrize("grid", [(20, 28), (20, 17, 5)])
@pytest.mark.parametrize("degrees", [-10.0, 10.0])
def test_a_ramp_comes_back_exactly_where_it_was_in_view(grid, degrees):
    # Linear interpolation is exact on linear functions, so there and back is the identity but for the borders.
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in grid), indexing="ij")
    ramp = sum((i + 1) * a for i, a in enumerate(axes))[None, None]
    outside = torch.full_like(ramp, -7.0)
    found = rotate_back(rotate(ramp, degrees), degrees, outside)
    seen = in_view(ramp, degrees)
    assert 0.6 < float(seen.float().mean()) < 1
    assert bool((found[0, 0][~seen] == -7).all())
    inner = tuple(slice(5, -5) if axis < 2 else slice(None) for axis in range(len(grid)))
    torch.testing.assert_close(found[0, 0][inner], ramp[0, 0][inner], rtol=1e-4, atol=1e-3)


def test_a_probability_stays_one():
    p = torch.softmax(image((12, 16)), dim=1)
    found = rotate_back(rotate(p, 10.0), 10.0, p)
    torch.testing.assert_close(found.sum(dim=1), torch.ones_like(found[:, 0]))
    assert found.min() >= 0


def test_no_rotation_is_nothing():
    x = image((9, 14))
    torch.testing.assert_close(rotate(x, 0.0), x)
    assert in_view(x, 0.0).all()
    assert torch.isfinite(rotate(image((1, 8)), 10.0)).all()


def test_intensities_change_as_the_formulas_say():
    x = image((5, 6))
    for row in range(2):
        values = x[row].flatten().tolist()
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
        low, high = min(values), max(values)
        expected = {
            "gain": [mean + 1.1 * (v - mean) for v in values],
            "shift": [v - 0.2 * deviation for v in values],
            "gamma": [low + (high - low) * ((v - low) / (high - low)) ** 0.8 for v in values],
        }
        found = {"gain": gain(x, 1.1), "shift": shift(x, -0.2), "gamma": gamma(x, 0.8)}
        for name, value in found.items():
            np.testing.assert_allclose(value[row].flatten().numpy(), expected[name], atol=1e-4)


def test_gamma_keeps_range_and_order_and_flat_images_stay():
    x = image((5, 6))
    found = gamma(x, 2.0)
    torch.testing.assert_close(found.flatten(1).amax(1), x.flatten(1).amax(1))
    assert torch.equal(found[0].flatten().argsort(), x[0].flatten().argsort())
    flat = torch.full((1, 1, 4, 4), 3.0)
    for change in (lambda v: gamma(v, 0.5), lambda v: gain(v, 1.2), lambda v: shift(v, 0.1)):
        torch.testing.assert_close(change(flat), flat)


def test_rows_do_not_see_each_other():
    x = image((5, 6))
    for augmentation in make_augmentations(TestTimeAugmentationConfig(), 2):
        whole = augmentation.change(x)
        torch.testing.assert_close(whole, torch.cat([augmentation.change(x[i : i + 1]) for i in range(2)]))


def test_the_list_follows_the_settings():
    names = [a.name for a in make_augmentations(TestTimeAugmentationConfig(), 3)]
    assert len(names) == 11
    assert names[:5] == [
        *(f"flip of axis {i}" for i in range(3)),
        "rotation by -10 degrees",
        "rotation by 10 degrees",
    ]
    few = TestTimeAugmentationConfig(flips=(1,), rotations=(), gains=(), shifts=(), gammas=())
    assert [a.name for a in make_augmentations(few, 2)] == ["flip of axis 1"]
    with pytest.raises(ConfigError, match="axes from 0 to 1"):
        make_augmentations(TestTimeAugmentationConfig(flips=(2,)), 2)
