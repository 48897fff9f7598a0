"""Running sums over passes and the Dice between them, against stacking and loops over all pairs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sfumato.measures.entropy import entropy
from sfumato.measures.passes import (
    NAMES,
    Passes,
    label_doubt,
    mutual_information,
    pairwise_dice,
    responses_of,
    vote_sums,
)

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=30)
seeds, counts, classes = st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 4)


def drawn(seed: int, count: int, classes: int, voxels: tuple[int, ...] = (3, 4)) -> torch.Tensor:
    """(passes, batch 2, classes, *voxels) float64 probabilities, some of them certain."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, 2, classes, *voxels, generator=generator, dtype=torch.float64)
    logits[torch.rand(logits.shape, generator=generator) < 0.1] = 800
    return torch.softmax(logits, dim=2)


def added(stacked: torch.Tensor) -> Passes:
    passes = Passes()
    for probability in stacked:
        passes.add(probability)
    return passes


@given(seeds, counts, classes)
@REPEATABLE
def test_streaming_is_stacking(seed, count, classes):
    stacked = drawn(seed, count, classes)
    found = added(stacked).responses()
    assert tuple(found) == NAMES
    chosen = F.one_hot(stacked.argmax(dim=2), classes).movedim(-1, 2).double()
    torch.testing.assert_close(found["mean"], stacked.mean(dim=0))
    torch.testing.assert_close(found["votes"], chosen.mean(dim=0))
    expected = np.mean([scipy.stats.entropy(p.numpy(), axis=1) for p in stacked], axis=0)
    np.testing.assert_allclose(found["expected_entropy"][:, 0].numpy(), expected, atol=1e-9)


@given(seeds, counts, classes)
@REPEATABLE
def test_the_order_of_passes_does_not_matter(seed, count, classes):
    stacked = drawn(seed, count, classes)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    one, other = added(stacked).responses(), added(stacked[order]).responses()
    for name in NAMES:
        torch.testing.assert_close(one[name], other[name], rtol=1e-9, atol=1e-12)


@given(seeds, counts, classes)
@REPEATABLE
def test_mutual_information_is_the_mean_divergence_from_the_mean(seed, count, classes):
    # H(mean p) - mean H(p) = mean KL(p || mean p), never negative and at most ln C.
    stacked = drawn(seed, count, classes)
    found = added(stacked).responses()
    value = mutual_information(found["mean"], found["expected_entropy"])
    mean = stacked.mean(dim=0)
    divergence = np.mean([scipy.stats.entropy(p.numpy(), mean.numpy(), axis=1) for p in stacked], axis=0)
    np.testing.assert_allclose(value.numpy(), divergence, atol=1e-8)
    assert (value >= 0).all()
    assert (value <= math.log(classes) + 1e-9).all()


def test_a_single_pass_is_itself():
    stacked = drawn(0, 1, 3)
    found = added(stacked).responses()
    torch.testing.assert_close(found["mean"], stacked[0])
    assert mutual_information(found["mean"], found["expected_entropy"]).max() < 1e-12
    assert pairwise_dice(vote_sums(found["votes"], 1), 1).tolist() == [1.0, 1.0]


def test_many_equal_passes_lose_no_digits():
    probability = drawn(0, 1, 3)[0].float()
    passes = added(probability.expand(2000, *probability.shape))
    torch.testing.assert_close(passes.responses()["mean"], probability, rtol=1e-6, atol=1e-7)


def test_label_doubt_asks_for_the_given_label():
    probability = torch.tensor([0.7, 0.2, 0.1]).reshape(1, 3, 1)
    doubts = [label_doubt(probability, torch.tensor([[label]])).item() for label in range(3)]
    assert doubts == pytest.approx([0.3, 0.8, 0.9])


@given(seeds, st.integers(2, 6), classes)
@REPEATABLE
def test_pairwise_dice_is_the_pooled_ratio_over_all_pairs(seed, count, classes):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, classes, (count, 2, 30), generator=generator)
    ratios = []
    for row in range(2):
        per_class = []
        for c in range(1, classes):
            both = sizes = 0
            for a, b in itertools.combinations(maps[:, row], 2):
                both += 2 * int(((a == c) & (b == c)).sum())
                sizes += int((a == c).sum()) + int((b == c).sum())
            if sizes:
                per_class.append(both / sizes)
        ratios.append(float(np.mean(per_class)) if per_class else 1.0)
    assert dice_of(maps, classes).tolist() == pytest.approx(ratios, abs=1e-6)


@given(seeds, st.integers(2, 5))
@REPEATABLE
def test_with_equal_sizes_it_is_the_mean_dice_of_all_pairs(seed, count):
    generator = torch.Generator().manual_seed(seed)
    base = torch.arange(24) % 3
    maps = torch.stack([base[torch.randperm(24, generator=generator)] for _ in range(count)])
    dice = [
        np.mean([2 * float(((a == c) & (b == c)).sum()) / 16 for c in (1, 2)])
        for a, b in itertools.combinations(maps, 2)
    ]
    assert float(dice_of(maps[:, None], 3)) == pytest.approx(float(np.mean(dice)), abs=1e-6)


def dice_of(maps: torch.Tensor, classes: int) -> torch.Tensor:
    votes = F.one_hot(maps, classes).movedim(-1, 2).double().mean(dim=0)
    return pairwise_dice(vote_sums(votes, len(maps)), len(maps))


def test_sums_of_pieces_add_up():
    votes = added(drawn(3, 4, 3)).responses()["votes"]
    pieces = vote_sums(votes[:, :, :1], 4) + vote_sums(votes[:, :, 1:], 4)
    torch.testing.assert_close(pieces, vote_sums(votes, 4))


def test_where_no_pass_found_anything_they_agree():
    nothing = torch.zeros(3, 1, 10, dtype=torch.int64)
    assert dice_of(nothing, 3).tolist() == [1.0]
    one = nothing.clone()
    one[0, 0, 0] = 1
    assert dice_of(one, 3).tolist() == [0.0]  # one of three passes found one voxel


def test_blended_responses_are_a_probability_again():
    found = added(drawn(1, 3, 3)).responses()
    scaled = {name: 1.001 * value - 1e-4 for name, value in found.items()}
    mean, expected_entropy, votes = responses_of(scaled)
    assert mean.min() >= 0
    torch.testing.assert_close(mean.sum(dim=1), torch.ones_like(mean[:, 0]))
    assert torch.equal(votes, scaled["votes"])
    assert torch.isfinite(entropy(mean) - expected_entropy[:, 0]).all()
