from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.heads.error_table import ErrorTable, pool_adjacent_violators, tail_dense_bins


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.1, 5)), min_size=1, max_size=30))
def test_pooling_agrees_with_another_library(pairs):
    isotonic = pytest.importorskip("sklearn.isotonic")
    value, weight = (np.array(x) for x in zip(*pairs, strict=True))
    levels, sizes = pool_adjacent_violators(value, weight)
    assert sizes.sum() == len(value)
    assert (np.diff(levels) > 0).all()
    expected = isotonic.isotonic_regression(value, sample_weight=weight)
    np.testing.assert_allclose(np.repeat(levels, sizes), expected, atol=1e-9)


@settings(deadline=None)
@given(st.integers(1, 10**7), st.sampled_from([8, 64, 256]))
def test_bins_cover_everything_and_shrink_towards_the_tail(count, bins):
    edges = tail_dense_bins(count, bins)
    sizes = np.diff(edges)
    assert edges[0] == 0
    assert edges[-1] == count
    assert len(sizes) <= bins
    assert sizes.min() >= min(50, count)
    if count > 10**6 and bins == 256:
        assert sizes[-1] < 200


def skewed(count: int, seed: int):
    """Scores of which one in a hundred is high; the chance of error is a known function of them."""
    g = torch.Generator().manual_seed(seed)
    score = -torch.log(torch.rand(count, generator=g))
    chance = (score / 12).clamp(max=1) ** 2
    return score, torch.rand(count, generator=g) < chance, chance


def test_the_table_gives_chances_also_where_scores_are_rare():
    table = ErrorTable()
    score, wrong, _ = skewed(400_000, 0)
    table.fit(score, wrong)
    fresh, hit, chance = skewed(400_000, 1)
    predicted = table(fresh)
    assert float((predicted - chance).abs().mean()) < 2e-3
    for low, high in ((0, 2), (2, 5), (5, 8), (8, 11)):
        inside = (fresh >= low) & (fresh < high)
        assert float(predicted[inside].mean()) == pytest.approx(float(hit[inside].float().mean()), abs=0.05)


def test_the_table_keeps_order_and_stays_in_range():
    table = ErrorTable()
    score, wrong, _ = skewed(50_000, 2)
    table.fit(score, wrong)
    grid = torch.linspace(-5, 20, 5001)
    chances = table(grid)
    assert (chances.diff() >= 0).all()
    assert chances.min() >= 0
    assert chances.max() <= 1
    inside = (grid > table.scores[0]) & (grid < table.scores[-1])
    assert (table(grid[inside]).diff() > 0).all()
    assert table(score.reshape(100, 500)).shape == (100, 500)


@pytest.mark.parametrize(
    ("score", "wrong", "expected"),
    [
        (torch.full((100,), 2.0), torch.arange(100) < 25, 0.25),
        (torch.linspace(0, 1, 100), torch.zeros(100, dtype=torch.bool), 0.0),
        (torch.linspace(0, 1, 100), torch.ones(100, dtype=torch.bool), 1.0),
        (torch.tensor([3.0]), torch.tensor([True]), 1.0),
    ],
    ids=["constant score", "no error", "all errors", "one voxel"],
)
def test_degenerate_sets(score, wrong, expected):
    table = ErrorTable()
    table.fit(score, wrong)
    values = table(torch.tensor([float(score.mean()), 1e9]))
    assert torch.isfinite(values).all()
    assert float(values[-1]) == pytest.approx(expected)
    assert math.isfinite(float(table(torch.tensor([-1e9]))))


def test_the_order_of_tied_voxels_does_not_matter():
    score = torch.tensor([1.0, 2.0, 3.0]).repeat_interleave(400)
    wrong = torch.arange(1200) % 400 < torch.tensor([4, 100, 200]).repeat_interleave(400)
    one, other = ErrorTable(), ErrorTable()
    one.fit(score, wrong)
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(0))
    other.fit(score[order], wrong[order])
    assert torch.equal(one.chances, other.chances)
    assert one(torch.tensor([2.0, 3.0])).tolist() == pytest.approx([0.25, 0.5])


def test_no_voxel_is_refused():
    with pytest.raises(InputError, match="No labelled voxel"):
        ErrorTable().fit(torch.zeros(0), torch.zeros(0, dtype=torch.bool))
