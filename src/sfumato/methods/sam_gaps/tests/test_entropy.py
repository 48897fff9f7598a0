"""Entropies against worked examples, another library, loops, and the laws that information obeys."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from sfumato.errors import InputError
from sfumato.methods.sam_gaps.entropy import (
    bits,
    foreground_entropy,
    information_chain,
    mean_entropy,
    mixture,
    support_of,
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.sigmoid(2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.5] * 4, 1.0),
        ([0.9] * 4, 0.468996),
        ([0.1] * 4, 0.468996),
        ([1.0, 1.0, 0.5, 0.5], 1 / 3),
        ([0.0, 0.3], 0.8813),
        ([0.15, 0.15], 0.6098),
    ],
)
def test_worked_examples(values, expected):
    assert float(foreground_entropy(torch.tensor([values]))) == pytest.approx(expected, abs=6e-5)


@pytest.mark.parametrize("values", [[1.0, 0, 1, 0], [0.0, 0, 0, 0]])
def test_a_certain_or_empty_map_has_the_entropy_of_the_clip(values):
    assert float(foreground_entropy(torch.tensor([values]))) == pytest.approx(2.14e-5, rel=2e-3)


def test_masks_that_overlap_in_half_of_their_area():
    maps = torch.zeros(2, 1, 12)
    maps[0, 0, :8] = maps[1, 0, 4:] = 1
    assert float(foreground_entropy(mixture(torch.ones(2), maps))) == pytest.approx(0.5, abs=1e-4)


def test_the_foreground_entropy_is_not_concave_and_the_plain_one_is():
    first, second = torch.tensor([[0.0, 0.3]]), torch.tensor([[0.3, 0.0]])
    mixed = (first + second) / 2
    assert float(foreground_entropy(mixed)) < float(foreground_entropy(first))
    assert float(mean_entropy(mixed)) > float(mean_entropy(first))


def test_bits_are_another_library_s():
    p = drawn(50).double()
    expected = scipy_entropy(np.stack([p.numpy(), 1 - p.numpy()]), base=2)
    np.testing.assert_allclose(bits(p).numpy(), expected, atol=1e-9)


def test_reductions_agree_with_loops():
    maps = drawn(2, 3, 4)
    for one in range(2):
        weighed = weight = plain = 0.0
        for row, column in product(range(3), range(4)):
            p = float(maps[one, row, column])
            h = -p * np.log2(p) - (1 - p) * np.log2(1 - p)
            weighed, weight, plain = weighed + p * h, weight + p, plain + h
        assert float(foreground_entropy(maps)[one]) == pytest.approx(weighed / weight, abs=1e-9)
        assert float(mean_entropy(maps)[one]) == pytest.approx(plain / 12, abs=1e-9)
    support = drawn(2, 3, 4, seed=1) > 0.5
    expected = [bits(maps[i])[support[i]].mean() for i in range(2)]
    torch.testing.assert_close(mean_entropy(maps, support), torch.stack(expected))


def test_mixtures():
    maps, weights = drawn(2, 3, 4, 5), torch.tensor([[0.9, 0.6, 0.3], [0.0, 0.0, 0.0]])
    found = mixture(weights, maps)
    torch.testing.assert_close(found[0], (maps[0, 0] / 2 + maps[0, 1] / 3 + maps[0, 2] / 6).double())
    torch.testing.assert_close(found[1], maps[1].double().mean(dim=0))
    with pytest.raises(InputError, match="negative"):
        mixture(-weights, maps)


def slow_chain(maps, weights):
    """Two factors, one prompt: every conditional entropy by its own loops."""
    first, second = maps.shape[:2]
    joint = weights / weights.sum()

    def h(p):
        return float((-p * p.log2() - (1 - p) * (1 - p).log2()).mean())

    total = h(sum(joint[i, j] * maps[i, j] for i, j in product(range(first), range(second))))
    given_first = given_both = 0.0
    for i in range(first):
        share = joint[i].sum()
        given_first += share * h(sum(joint[i, j] / share * maps[i, j] for j in range(second)))
        given_both += sum(joint[i, j] * h(maps[i, j]) for j in range(second))
    return total - given_first, given_first - given_both, given_both, total


def test_the_chain_agrees_with_loops():
    maps, weights = drawn(3, 2, 1, 4, 4).double(), drawn(3, 2, 1, seed=1).double()
    found = information_chain(maps, ("models", "prompts"), weights)
    expected = slow_chain(maps[:, :, 0], weights[:, :, 0])
    names = "models", "prompts", "rest", "total"
    np.testing.assert_allclose([float(found[n]) for n in names], expected, atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.integers(1, 3), min_size=1, max_size=4), st.floats(0, 1))
def test_every_term_is_positive_and_they_add_up(seed, sizes, cut):
    maps = drawn(*sizes, 2, 3, 4, seed=seed)
    weights = (drawn(*sizes, 2, seed=seed + 1) - cut / 2).clamp(min=0)
    weights[tuple(0 for _ in sizes)] += 0.1  # some without any weight, not all
    support = support_of(maps.flatten(0, len(sizes) - 1).movedim(0, 1), cut)
    names = [f"factor {i}" for i in range(len(sizes))]
    found = information_chain(maps, names, weights, support)
    total = found.pop("total")
    assert all((term >= -1e-12).all() for term in found.values())
    torch.testing.assert_close(sum(found.values()), total)
    for name, size in zip(names, sizes, strict=True):
        if size == 1:
            assert float(found[name].abs().max()) < 1e-12


def test_a_factor_that_changes_nothing_tells_nothing():
    maps = drawn(1, 3, 2, 4, 4).expand(4, -1, -1, -1, -1)
    found = information_chain(maps, ("models", "prompts"))
    assert float(found["models"].abs().max()) < 1e-12
    assert float(found["prompts"].min()) > 0.01


def test_axes_are_counted():
    with pytest.raises(InputError, match="one axis per factor"):
        information_chain(drawn(2, 3, 4, 4), ("models", "prompts"))
