"""Masks that keep and break what a sentence says, on the image's sides and on the patient's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.methods.text_guided.contradiction import find_contradiction, mask_facts, size_ranges

SIDE = 40
PLACES = {"left": (20, 8), "right": (20, 31), "top": (8, 20), "bottom": (31, 20), "centre": (20, 20)}


def disc(row: float, column: float, radius: float = 4.0) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - row) ** 2 + (x - column) ** 2 <= radius**2


def position(*words: str):
    return {"position": frozenset(words)}


def broken(claims, mask, **more):
    return find_contradiction(claims, mask, mask, **more).broken


def loop_facts(mask: np.ndarray):
    """Parts by filling from voxel to voxel, largest first; middles as means of voxel centres."""
    left, parts = {tuple(p) for p in np.argwhere(mask)}, []
    while left:
        border, part = [left.pop()], []
        while border:
            part.append(border.pop())
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    near = tuple(n + step * (a == axis) for a, n in enumerate(part[-1]))
                    if near in left:
                        left.remove(near)
                        border.append(near)
        parts.append(np.array(part))
    middle = lambda part: (part[:, -2:].mean(axis=0) + 0.5) / mask.shape[-2:]
    largest = max(map(len, parts))
    return sorted(tuple(middle(p)) for p in parts if len(p) >= 0.05 * largest)


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 500), st.sampled_from([(9, 11), (3, 6, 7)]))
def test_facts_are_those_of_filling_voxel_by_voxel(seed, shape):
    mask = np.random.default_rng(seed).random(shape) < 0.3
    facts = mask_facts(mask)
    np.testing.assert_allclose(sorted(facts.places), loop_facts(mask), atol=1e-5)
    assert facts.share == pytest.approx(mask.sum() / mask.size)


@pytest.mark.parametrize("word", ["left", "right", "top", "bottom", "centre"])
def test_each_position_is_kept_where_it_is_and_broken_elsewhere(word):
    assert broken(position(word), disc(*PLACES[word])) == ()
    other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top", "centre": "left"}[word]
    assert broken(position(word), disc(*PLACES[other])) == (word,)


def test_a_middle_barely_beyond_the_half_still_counts_for_its_side():
    assert broken(position("left"), disc(20, 20)) == broken(position("right"), disc(20, 19)) == ()


def test_centre_beside_another_word_speaks_of_the_other_axis():
    assert broken(position("centre"), disc(20, 5)) == ("centre",)
    assert broken(position("centre", "left"), disc(20, 5)) == ()


def test_two_opposite_sides_want_a_part_on_each():
    both = disc(20, 8) | disc(20, 31)
    assert broken(position("left", "right"), both) == ()
    assert broken(position("left", "right"), disc(20, 8)) == ("right",)


def test_sides_of_radiographs_are_the_patients():
    assert broken(position("left"), disc(20, 31), mirrored=True) == ()
    assert broken(position("left"), disc(20, 8), mirrored=True) == ("left",)
    assert broken(position("top"), disc(*PLACES["top"]), mirrored=True) == ()
    warning = find_contradiction(position("left"), disc(20, 8), disc(20, 31), mirrored=True).warnings[0]
    assert warning.startswith("The sentence says left, but the mask lies 21% across")


def test_numbers_count_parts_and_overlook_specks():
    one, two = {"number": frozenset({"one"})}, {"number": frozenset({"two"})}
    speck = disc(5, 5, 0.5)
    assert broken(one, disc(20, 20) | speck) == ()
    assert broken(two, disc(20, 20) | speck) == ("two",)
    assert broken(two, disc(20, 8) | disc(20, 31)) == ()
    assert broken({"number": frozenset({"one", "two"})}, disc(20, 20)) == ()  # a sum is not judged


def test_sizes_are_judged_by_what_words_stood_for_in_training_or_not_at_all():
    said = {"size": frozenset({"small"})}
    cases = [(said, 0.01 * i) for i in range(101)]
    sizes = size_ranges([*cases, ({"size": frozenset({"large"})}, 0.9), ({"size": {"small", "large"}}, 0.9)])
    assert sizes == {"small": (pytest.approx(0.02), pytest.approx(0.98))}
    large = np.ones((SIDE, SIDE), bool)
    assert broken(said, large, sizes=sizes) == ("small",)
    assert broken(said, disc(20, 20, 8), sizes=sizes) == ()
    assert broken(said, large) == ()


def test_a_mask_that_lies_right_only_with_the_sentence_is_the_sentences():
    found = find_contradiction(position("right"), disc(20, 31), disc(20, 8))
    assert (found.broken, found.followed) == ((), ("right",))
    assert found.score == pytest.approx(23 / SIDE)
    (warning,) = found.warnings
    assert "decided by the sentence, not by the image" in warning
    assert "21% across and 51% down" in warning


def test_a_mask_that_does_not_mind_a_wrong_sentence_breaks_it():
    found = find_contradiction(position("left"), disc(20, 31), disc(20, 31))
    assert (found.broken, found.followed, found.score) == (("left",), (), 0.0)


def test_an_empty_mask_keeps_nothing():
    empty = np.zeros((SIDE, SIDE), bool)
    found = find_contradiction(position("left"), empty, disc(20, 8))
    assert found.broken == ("left",)
    assert found.score == 1.0
    assert "nothing is segmented" in found.warnings[0]
    assert find_contradiction(position("left"), empty, empty).score == 0.0


def test_a_sentence_that_says_nothing_measurable_is_never_contradicted():
    found = find_contradiction({"laterality": frozenset({"bilateral"})}, disc(20, 8), disc(20, 31))
    assert (found.score, found.broken, found.followed, found.warnings) == (0.0, (), (), ())


def test_only_named_axes_count_for_the_score():
    there, here = disc(20, 8), disc(20, 31)
    assert find_contradiction(position("top"), there, here).score == pytest.approx(0, abs=1e-6)
    size = {"size": frozenset({"small"})}
    expected = 1 - disc(20, 20, 3).sum() / disc(20, 20, 6).sum()
    assert find_contradiction(size, disc(20, 20, 6), disc(20, 20, 3)).score == pytest.approx(expected)
    number = {"number": frozenset({"one"})}
    assert find_contradiction(number, there, there | here).score == 0.5


@settings(deadline=None, derandomize=True)
@given(st.integers(0, 300))
def test_the_score_is_symmetric_and_in_its_range(seed):
    generator = np.random.default_rng(seed)
    first, second = generator.random((2, 8, 8)) < 0.3
    claims = {"position": {"left", "top"}, "number": {"one"}, "size": {"small"}}
    score = find_contradiction(claims, first, second).score
    assert 0 <= score <= 1
    assert score == find_contradiction(claims, second, first).score
    assert find_contradiction(claims, first, first).score == 0


def test_mirroring_the_image_and_the_sentence_changes_nothing():
    mask, without = disc(10, 6) | disc(30, 9), disc(25, 33)
    plain = find_contradiction(position("left", "bottom"), mask, without)
    turned = find_contradiction(position("left", "bottom"), mask[:, ::-1], without[:, ::-1], mirrored=True)
    assert (plain.broken, plain.followed) == (turned.broken, turned.followed)
    assert plain.score == pytest.approx(turned.score)
