"""Corruptions: seeded, graded, and leaving what they should leave."""

import numpy as np
import pytest

from sfumato.datasets.corruption import CORRUPTIONS, SEVERITIES, corrupt_image, parse_corruptions
from sfumato.errors import ConfigError, UnknownNameError
from sfumato.imaging import Geometry, Image

NAMES = sorted(CORRUPTIONS)


def image_of(shape, channels=1, kind=np.float32, name="case"):
    rng = np.random.default_rng(3)
    grids = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    ball = (sum(g**2 for g in grids) < 0.4).astype(float)
    stack = np.stack([100 + 80 * ball + rng.normal(0, 2, shape) for _ in range(channels)])
    return Image(stack.astype(kind), Geometry(tuple(shape)), name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(24, 31), (9, 14, 17)])
def test_the_same_call_gives_the_same_image_and_the_input_stays(name, shape):
    image = image_of(shape)
    before = image.array.copy()
    once, again = corrupt_image(image, name, 2), corrupt_image(image, name, 2)
    np.testing.assert_array_equal(once.array, again.array)
    np.testing.assert_array_equal(image.array, before)
    assert once.array.shape == before.shape
    assert once.array.dtype == before.dtype
    assert np.isfinite(once.array).all()
    assert once.geometry is image.geometry


@pytest.mark.parametrize("name", NAMES)
def test_more_severe_means_further_from_the_original(name):
    distances = []
    for severity in SEVERITIES:
        # A mean over cases: single draws of direction and phase may happen to be mild.
        images = [image_of((20, 30, 25), name=f"case{i}") for i in range(6)]
        changed = [corrupt_image(image, name, severity).array - image.array for image in images]
        distances.append(float(np.mean([np.abs(c).mean() for c in changed])))
    assert 0 < distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("name", NAMES)
def test_integers_stay_integers_within_their_limits(name):
    image = image_of((16, 18), kind=np.uint8)
    changed = corrupt_image(image, name, 3).array
    assert changed.dtype == np.uint8
    assert 0 <= changed.min() <= changed.max() <= 255


def test_case_names_and_seeds_draw_differently():
    one, other = image_of((16, 18)), image_of((16, 18), name="another")
    first = corrupt_image(one, "noise", 1).array
    assert not np.array_equal(first, corrupt_image(other, "noise", 1).array)
    assert not np.array_equal(first, corrupt_image(one, "noise", 1, seed=1).array)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "noise"])
def test_channels_of_one_image_move_together(name):
    single = image_of((16, 18))
    double = Image(np.concatenate([single.array, single.array]), single.geometry, single.name)
    changed = corrupt_image(double, name, 2).array
    np.testing.assert_array_equal(changed[0], changed[1])


def test_noise_has_the_strength_it_says():
    flat = Image(
        np.linspace(0, 1, 40_000, dtype=np.float32).reshape(1, 200, 200), Geometry((200, 200)), "flat"
    )
    noise = corrupt_image(flat, "noise", 2).array - flat.array
    span = np.subtract(*np.percentile(flat.array, (99.5, 0.5)))
    assert noise.std() == pytest.approx(0.08 * span, rel=0.02)


def test_an_inversion_turns_over_the_bright_part_of_the_range():
    ramp = Image(np.linspace(0, 255, 4096, dtype=np.float32).reshape(1, 64, 64), Geometry((64, 64)), "ramp")
    low, high = np.percentile(ramp.array, (0.5, 99.5))
    inside = np.clip(ramp.array, low, high)
    turned = corrupt_image(ramp, "inversion", 3).array
    np.testing.assert_allclose(turned, low + high - inside, atol=1e-3)
    half = corrupt_image(ramp, "inversion", 2).array
    dark = ramp.array < (low + high) / 2
    np.testing.assert_allclose(half[dark], ramp.array[dark], atol=1e-3)
    # What is turned over stays within its half.
    np.testing.assert_allclose(half[~dark], low / 2 + 1.5 * high - inside[~dark], atol=1e-3)
    assert half[~dark].min() >= (low + high) / 2 - 1e-3


@pytest.mark.parametrize("shape", [(20, 30), (10, 12, 14)])
def test_a_crop_darkens_one_end_of_one_axis(shape):
    ends = set()
    for number in range(30):
        image = image_of(shape, name=f"case{number}")
        changed = corrupt_image(image, "crop", 2).array[0]
        gone = np.abs(changed - image.array[0]) > 1e-3
        low = np.percentile(image.array, 0.5)
        lines = [
            (axis, gone.mean(tuple(a for a in range(gone.ndim) if a != axis)) > 0.9)
            for axis in range(gone.ndim)
        ]
        axis, band = next((a, line) for a, line in lines if 0 < line.sum() < len(line))
        assert band.sum() == round(0.2 * shape[axis])
        assert band[0] != band[-1]
        np.testing.assert_allclose(np.moveaxis(changed, axis, 0)[band], low, rtol=1e-5)
        assert not np.moveaxis(gone, axis, 0)[~band].any()
        ends.add((axis, bool(band[0])))
    assert len(ends) == 2 * len(shape)


def test_a_crop_counts_from_where_the_image_begins():
    for number in range(8):
        image = image_of((20, 24), name=f"case{number}")
        framed = Image(np.pad(image.array, ((0, 0), (9, 9), (9, 9))), Geometry((38, 42)), image.name)
        framed.array[0, 9:-9, 9:-9] += 50
        gone = (corrupt_image(framed, "crop", 2).array != framed.array)[0]
        assert max(gone.any(axis).sum() for axis in (0, 1)) in (20, 24)
        assert gone.sum() in (20 * round(0.2 * 24), 24 * round(0.2 * 20))


def test_unknown_names_and_severities_are_said():
    with pytest.raises(UnknownNameError, match="nois"):
        corrupt_image(image_of((8, 8)), "nois", 1)
    with pytest.raises(ConfigError, match="severity=4"):
        corrupt_image(image_of((8, 8)), "noise", 4)
    with pytest.raises(UnknownNameError):
        parse_corruptions("noise,fog")
    with pytest.raises(ConfigError, match="from 1 to 3"):
        parse_corruptions("noise", "0")
