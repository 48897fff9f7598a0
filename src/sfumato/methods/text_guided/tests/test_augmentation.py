"""Augmentation that leaves sentences true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform, center_of_mass

from sfumato.errors import ConfigError
from sfumato.methods.text_guided.augmentation import ZOOM, truthful_augmentation

SIDE = 64


def disc(row: float, column: float, radius: float = 8.0) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return ((y - row) ** 2 + (x - column) ** 2 <= radius**2).astype(np.int16)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("row", "column"), [(14, 14), (14, 48), (48, 14)])
def test_an_object_stays_where_it_was_said_to_be(seed, row, column):
    label = disc(row, column)
    _, changed = truthful_augmentation()(label[None].astype(np.float32), label, seed)
    middle, before = center_of_mass(changed), center_of_mass(label)
    half = (SIDE - 1) / 2
    assert all((m < half) == (b < half) for m, b in zip(middle, before, strict=True))
    ratio = changed.sum() / label.sum()
    assert ZOOM[0] ** 2 * 0.95 <= ratio <= ZOOM[1] ** 2 * 1.05


def test_image_and_label_move_together_as_another_library_moves_them():
    seed = next(s for s in range(99) if not _same_label(s))
    label = disc(20, 40)
    image, changed = truthful_augmentation()(label[None].astype(np.float32), label, seed)
    factor = np.random.default_rng(seed).uniform((ZOOM[0] - 1, -0.2, -0.2), (ZOOM[1] - 1, 0.2, 0.2))[0] + 1
    half = (SIDE - 1) / 2
    expected = affine_transform(label, np.eye(2) / factor, half - half / factor, order=0, mode="nearest")
    assert (changed != expected).mean() < 0.002  # ties of the nearest pixel
    bright = image[0] > (image.min() + image.max()) / 2
    assert (bright != (changed > 0)).mean() < 0.02


def _same_label(seed: int) -> bool:
    label = disc(20, 40)
    return bool((truthful_augmentation()(label[None].astype(np.float32), label, seed)[1] == label).all())


def test_it_is_a_function_of_its_seed_and_half_of_the_images_are_zoomed():
    label = disc(30, 20)
    image = np.random.default_rng(0).random((3, SIDE, SIDE)).astype(np.float32)
    augment = truthful_augmentation()
    for one, other in zip(augment(image, label, 5), augment(image, label, 5), strict=True):
        assert np.array_equal(one, other)
    assert 0.3 < np.mean([_same_label(seed) for seed in range(60)]) < 0.7


def test_labels_keep_their_values_and_unknown_voxels():
    label = np.where(disc(30, 30) > 0, -1, 2).astype(np.int16)
    for seed in range(10):
        image, changed = truthful_augmentation()(np.ones((1, SIDE, SIDE), np.float32), label, seed)
        assert set(np.unique(changed)) == {-1, 2}
        assert changed.dtype == np.int16
        assert image.dtype == np.float32


@pytest.mark.parametrize("strength", [-1.0, 6.0])
def test_strength_has_its_range(strength):
    with pytest.raises(ConfigError, match="from 0 to 5"):
        truthful_augmentation(strength)


def test_the_share_of_hidden_images_is_as_told_and_their_labels_stay():
    image, label = np.full((1, 8, 8), 3.0, np.float32), np.eye(8, dtype=np.int16)
    hide = truthful_augmentation(0.0, image_dropout=0.3)
    seen = [hide(image, label, seed) for seed in range(400)]
    hidden = [not (shown == image).all() for shown, _ in seen]
    assert 0.22 < np.mean(hidden) < 0.38
    assert all((kept == label).all() for _, kept in seen)
    noise = np.concatenate([shown for (shown, _), h in zip(seen, hidden, strict=True) if h])
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    with pytest.raises(ConfigError, match="image_dropout=1"):
        truthful_augmentation(1.0, image_dropout=1.0)
