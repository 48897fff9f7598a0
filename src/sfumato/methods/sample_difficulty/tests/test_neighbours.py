import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from sfumato.errors import ConfigError, InputError
from sfumato.methods.sample_difficulty.neighbours import (
    Ruler,
    atypicality,
    descriptor,
    neighbour_distances,
    squared_distances,
)


def table(cases: int, numbers: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(cases, numbers))


def test_a_descriptor_is_means_and_spreads_written_out():
    maps = {"fine": torch.rand(3, 2, 4, 5), "coarse": torch.rand(3, 4, 2, 2)}
    wanted = []
    for value in maps.values():
        a = value.double().numpy()
        wanted += [[np.mean([a[s, c].mean() for s in range(3)]) for c in range(a.shape[1])]]
        wanted += [[np.mean([a[s, c].std() for s in range(3)]) for c in range(a.shape[1])]]
    assert np.allclose(descriptor(maps), np.concatenate(wanted), atol=1e-6)
    assert descriptor(maps).dtype == np.float32


def test_squared_distances_are_scipy_s():
    ones, others = table(9, 300), table(12, 300, seed=1)
    assert np.allclose(squared_distances(ones, others), cdist(ones, others, "sqeuclidean"), rtol=1e-12)
    assert (squared_distances(ones, ones) >= 0).all()


@pytest.mark.parametrize("neighbours", [1, 5])
def test_distances_are_scikit_learn_s(neighbours):
    cases, reference = table(30, 4), table(700, 4, seed=1)
    found = neighbour_distances(cases, reference, neighbours)
    wanted = NearestNeighbors(n_neighbors=neighbours).fit(reference).kneighbors(cases)[0].mean(axis=1)
    assert np.allclose(found, wanted)
    # Among themselves nobody is its own neighbour, in the second chunk of rows neither.
    within = NearestNeighbors(n_neighbors=neighbours).fit(reference).kneighbors()[0].mean(axis=1)
    assert np.allclose(neighbour_distances(reference, neighbours=neighbours), within)


@given(st.integers(0, 2**31))
def test_the_order_of_cases_does_not_matter(seed):
    cases = table(12, 3, seed)
    order = np.random.default_rng(seed).permutation(12)
    assert np.allclose(neighbour_distances(cases)[order], neighbour_distances(cases[order]))


def test_a_lone_case_and_too_few_neighbours():
    assert neighbour_distances(table(1, 3)).tolist() == [0.0]
    assert np.allclose(
        neighbour_distances(table(2, 3), neighbours=5), np.linalg.norm(np.diff(table(2, 3), axis=0))
    )
    with pytest.raises(ConfigError, match="neighbours=0"):
        neighbour_distances(table(2, 3), neighbours=0)


def test_the_ruler_takes_medians_and_scaled_deviations():
    block = np.abs(table(41, 3))
    ruler = Ruler.of([block])
    shrunk = np.log1p(block)
    assert np.allclose(ruler.middles[0], np.median(shrunk, axis=0))
    assert np.allclose(
        ruler.spreads[0], stats.median_abs_deviation(shrunk, scale="normal", axis=0), rtol=1e-4
    )


def test_one_wild_case_hardly_moves_the_ruler_and_does_not_leave_it():
    block = table(50, 3)
    wild = np.concatenate([block, np.full((1, 3), 1e6)])
    before, after = Ruler.of([block]), Ruler.of([wild])
    assert np.allclose(before.middles[0], after.middles[0], atol=0.1)
    # Ten spreads at most, divided by the root of the block's three numbers.
    assert np.abs(after.standardised([wild])).max() == pytest.approx(10 / np.sqrt(3))
    assert atypicality(after.standardised([wild])).argmax() == 50


def test_blocks_weigh_the_same_whatever_their_width():
    narrow, wide = table(400, 2), table(400, 200, seed=1)
    standard = Ruler.of([narrow, wide]).standardised([narrow, wide])
    shares = [(standard[:, :2] ** 2).sum(axis=1).mean(), (standard[:, 2:] ** 2).sum(axis=1).mean()]
    assert shares[0] == pytest.approx(shares[1], rel=0.15)


def test_constant_numbers_say_nothing():
    block = np.concatenate([np.full((9, 1), 3.0), table(9, 1)], axis=1)
    assert (Ruler.of([block]).standardised([block])[:, 0] == 0).all()


def test_wrong_blocks_are_our_errors():
    with pytest.raises(InputError, match="at least one"):
        Ruler.of([np.zeros((0, 3))])
    with pytest.raises(InputError, match="same extractor"):
        Ruler.of([table(5, 3)]).standardised([table(5, 4)])
