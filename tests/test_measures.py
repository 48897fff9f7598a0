"""Entropy, margin and case scores against scipy, brute force and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sfumato.measures import case_score, entropy, expected_dice_loss, margin
from sfumato.measures.aggregate import region_sums, score_from_sums
from sfumato.measures.entropy import log_doubt, maximum_probability_doubt
from sfumato.types import Kind

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=25)


@st.composite
def probabilities(draw, dtype=np.float64):
    """(batch, classes, *grid), some of them exactly 0, 1 or tied."""
    classes = draw(st.integers(2, 5))
    shape = (draw(st.integers(1, 2)), *draw(st.sampled_from([(3,), (2, 3), (2, 1, 2)])), classes)
    raw = draw(hnp.arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.01, 0.2, 0.5, 1.0, 7.0])))
    raw[..., 0] += raw.sum(-1) == 0
    return torch.from_numpy(np.moveaxis(raw / raw.sum(-1, keepdims=True), -1, 1).astype(dtype))


@given(probability=probabilities())
@REPEATABLE
def test_entropy_is_scipy_s(probability):
    expected = scipy.stats.entropy(probability.numpy(), axis=1)
    np.testing.assert_allclose(entropy(probability).numpy(), expected, atol=1e-9)


@given(probability=probabilities(np.float32))
@REPEATABLE
def test_entropy_stays_in_its_range(probability):
    value = entropy(probability)
    assert (value >= 0).all()
    assert (value <= math.log(probability.shape[1]) + 1e-6).all()


@given(probability=probabilities())
@REPEATABLE
def test_margin_is_the_gap_between_the_two_largest(probability):
    ordered = np.sort(probability.numpy(), axis=1)
    np.testing.assert_allclose(margin(probability).numpy(), ordered[:, -1] - ordered[:, -2], atol=1e-12)
    np.testing.assert_allclose(maximum_probability_doubt(probability).numpy(), 1 - ordered[:, -1], atol=1e-12)


@given(probability=probabilities())
@REPEATABLE
def test_measures_ignore_the_order_of_classes(probability):
    for measure in (entropy, margin, maximum_probability_doubt):
        torch.testing.assert_close(measure(probability), measure(probability.flip(1)))


def test_certain_voxels_have_no_doubt():
    certain = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1)
    assert entropy(certain).item() == 0
    assert margin(certain).item() == 1
    assert maximum_probability_doubt(certain).item() == 0


def test_logarithmic_doubt_orders_what_the_margin_cannot():
    z = torch.tensor([[30.0, 0.0], [40.0, 0.0]]).T.reshape(1, 2, 2)
    p = torch.softmax(z, 1)
    assert margin(p)[0, 0] == margin(p)[0, 1]
    z = torch.tensor([[12.0, 0.0], [18.0, 0.0]]).T.reshape(1, 2, 2)
    doubt = log_doubt(z)[0]
    assert doubt.tolist() == pytest.approx([-12.0, -18.0], abs=1e-4)
    assert log_doubt(1e4 * z).min() == -20


# ---- case scores


def simulated_dice_loss(error: np.ndarray, labels: np.ndarray, draws: int, seed: int) -> tuple[float, float]:
    """Mean 1 - Dice, and its standard error, when each voxel is wrong on its own with its stated probability."""
    wrong = np.random.default_rng(seed).random((draws, error.size)) < error.ravel()
    predicted = labels.ravel() > 0
    truth = predicted ^ wrong
    both, sizes = (truth & predicted).sum(1), truth.sum(1) + predicted.sum()
    loss = 1 - np.where(sizes > 0, 2 * both / np.maximum(sizes, 1), 1.0)
    return float(loss.mean()), float(loss.std() / np.sqrt(draws))


@pytest.mark.parametrize("foreground", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("level", [0.02, 0.2, 0.45])
def test_expected_dice_loss_is_what_simulation_gives(foreground, level):
    rng = np.random.default_rng(1)
    labels = (rng.random((40, 50)) < foreground).astype(np.int64)
    error = rng.random((40, 50)).astype(np.float32) * level
    score = expected_dice_loss(torch.from_numpy(error)[None], torch.from_numpy(labels)[None]).item()
    simulated, uncertainty = simulated_dice_loss(error, labels, 2000, seed=2)
    # The ratio of expectations differs from the expectation of the ratio by about 1 / foreground voxels.
    assert score == pytest.approx(simulated, abs=4 * uncertainty + 1 / labels.sum())


@pytest.mark.parametrize("level", [0.0, 1e-6, 1e-4, 1e-3, 0.05])
def test_an_empty_prediction_is_lost_when_anything_was_missed(level):
    labels = np.zeros((40, 50), np.int64)
    error = np.full((40, 50), level, np.float32)
    score = expected_dice_loss(torch.from_numpy(error)[None], torch.from_numpy(labels)[None]).item()
    simulated, uncertainty = simulated_dice_loss(error, labels, 4000, seed=3)
    assert score == pytest.approx(simulated, abs=4 * uncertainty + 1e-3)
    assert score == pytest.approx(1 - (1 - level) ** 2000, abs=1e-3)


maps = st.integers(0, 50).map(
    lambda seed: (
        torch.from_numpy(np.random.default_rng(seed).random((2, 6, 7)).astype(np.float32)),
        torch.from_numpy(np.random.default_rng(seed + 1000).integers(0, 3, (2, 6, 7))),
    )
)


@given(both=maps)
@REPEATABLE
def test_scores_against_brute_force(both):
    value, labels = both
    for row in range(2):
        inside = [float(v) for v, c in zip(value[row].flatten(), labels[row].flatten(), strict=True) if c > 0]
        outside = [
            float(v) for v, c in zip(value[row].flatten(), labels[row].flatten(), strict=True) if c == 0
        ]
        wrong, hit = sum(inside) + sum(outside), len(inside) - sum(inside)
        assert case_score(Kind.ERROR, value, labels)[row].item() == pytest.approx(
            wrong / (2 * hit + wrong), rel=1e-5
        )
        mean = sum(inside) / len(inside)
        assert case_score(Kind.PREDICTIVE, value, labels)[row].item() == pytest.approx(mean, rel=1e-5)


@given(both=maps, cut=st.integers(1, 5))
@REPEATABLE
def test_pieces_add_up_to_the_whole(both, cut):
    value, labels = both
    parts = region_sums(value[:, :cut], labels[:, :cut]) + region_sums(value[:, cut:], labels[:, cut:])
    torch.testing.assert_close(parts, region_sums(value, labels))
    for kind in (Kind.ERROR, Kind.EPISTEMIC):
        torch.testing.assert_close(score_from_sums(kind, parts), case_score(kind, value, labels))


@given(both=maps)
@REPEATABLE
def test_rows_do_not_see_each_other(both):
    value, labels = both
    for kind in (Kind.ERROR, Kind.RANKING):
        rows = torch.cat([case_score(kind, value[i : i + 1], labels[i : i + 1]) for i in range(2)])
        torch.testing.assert_close(case_score(kind, value, labels), rows)


@given(both=maps, voxel=st.integers(0, 41), more=st.floats(0.0, 1.0))
@REPEATABLE
def test_more_doubt_never_lowers_the_expected_loss(both, voxel, more):
    value, labels = both
    doubted = value.clone()
    flat = doubted.view(2, -1)
    flat[:, voxel] += (1 - flat[:, voxel]) * more
    before, after = expected_dice_loss(value, labels), expected_dice_loss(doubted, labels)
    assert (after >= before - 1e-6).all()
    assert ((after >= 0) & (after <= 1)).all()


def test_a_map_without_foreground_is_averaged_over_everything():
    value = torch.arange(12.0).reshape(1, 3, 4)
    assert case_score(Kind.RANKING, value, torch.zeros(1, 3, 4, dtype=torch.long)).item() == pytest.approx(
        5.5
    )


def test_sums_of_large_maps_do_not_drift():
    """float32 counters stop at 2^24; these are float64."""
    value = torch.full((1, 2**24 + 16), 0.5, dtype=torch.float16)
    labels = torch.ones(1, 2**24 + 16, dtype=torch.uint8)
    inside, outside, count, rest = region_sums(value, labels)[0].tolist()
    assert (inside, outside, count, rest) == ((2**24 + 16) / 2, 0, 2**24 + 16, 0)
