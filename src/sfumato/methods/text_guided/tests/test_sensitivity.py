"""Sensitivity to words: loops and other libraries beside the formulas, and what must hold for any probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from sklearn.metrics import f1_score

from sfumato.errors import InputError
from sfumato.methods.text_guided.sensitivity import moved, text_sensitivity


def drawn(seed: int, count: int, classes: int = 3, grid: tuple[int, ...] = (3, 4), rows: int = 2):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, rows, classes, *grid, generator=generator, dtype=torch.float64)
    return list(torch.softmax(logits, dim=2))


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_shift_is_the_mean_distance_of_distributions_voxel_by_voxel(grid):
    said, *variants = drawn(0, 4, grid=grid)
    found = text_sensitivity(said, variants)
    for row in range(2):
        for place in np.ndindex(*grid):
            total = 0.0
            for variant in variants:
                total += sum(abs(float(variant[row, c][place] - said[row, c][place])) for c in range(3)) / 2
            assert found.shift[row][place].item() == pytest.approx(total / 3, abs=1e-12)


def test_with_two_classes_the_shift_is_that_of_the_foreground():
    said, variant = drawn(1, 2, classes=2)
    assert torch.allclose(text_sensitivity(said, [variant]).shift, (variant - said)[:, 1].abs())


def test_with_one_variant_the_words_part_is_the_jensen_shannon_divergence():
    said, variant = drawn(2, 2)
    expected = jensenshannon(said.numpy(), variant.numpy(), axis=1) ** 2
    np.testing.assert_allclose(text_sensitivity(said, [variant]).words.numpy(), expected, atol=1e-9)


@settings(deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
def test_parts_are_bounded_and_neither_order_nor_repetition_of_all_matters(seed, count):
    said, *variants = drawn(seed, count + 1, grid=(2, 2))
    found = text_sensitivity(said, variants)
    assert found.shift.min() >= 0
    assert found.shift.max() <= 1
    assert found.words.min() >= 0
    assert (found.words + found.image).max() <= np.log(3) + 1e-9
    turned = text_sensitivity(said, variants[::-1])
    for name in ("shift", "words", "image"):
        torch.testing.assert_close(getattr(found, name), getattr(turned, name))
    torch.testing.assert_close(found.shift, text_sensitivity(said, variants * 2).shift)


def test_variants_that_change_nothing_leave_all_doubt_to_the_image():
    (said,) = drawn(3, 1)
    found = text_sensitivity(said, [said, said])
    assert found.shift.max() == 0
    assert found.words.max() < 1e-12
    assert torch.allclose(found.image, -(said * said.log()).sum(dim=1))
    assert found.moved.max() == 0


def test_certain_answers_that_disagree_are_doubt_about_the_words_alone():
    one, other = torch.eye(2, dtype=torch.float64)
    found = text_sensitivity(one.reshape(1, 2, 1), [other.reshape(1, 2, 1)])
    assert found.shift.item() == 1
    assert found.words.item() == pytest.approx(np.log(2))
    assert found.image.item() < 1e-9


def test_moved_is_one_minus_the_f1_score_over_foreground_classes():
    first = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(0))
    second = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(1))
    for row, value in enumerate(moved(first, second).tolist()):
        pair = first[row].flatten().numpy(), second[row].flatten().numpy()
        micro = f1_score(*pair, labels=[1, 2], average="micro")
        assert value == pytest.approx(1 - micro, abs=1e-6)


def test_moved_of_empty_masks():
    empty, full = torch.zeros(1, 4, dtype=torch.long), torch.ones(1, 4, dtype=torch.long)
    assert moved(empty, empty).item() == 0
    assert moved(empty, full).item() == moved(full, empty).item() == 1


def test_no_variant_and_one_of_another_grid_are_refused():
    said, variant = drawn(4, 2)
    with pytest.raises(InputError, match="expected at least one"):
        text_sensitivity(said, [])
    with pytest.raises(InputError, match=r"\(2, 3, 3, 3\)"):
        text_sensitivity(said, [variant[..., :3]])
