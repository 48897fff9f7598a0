"""The area under a correction curve: worked examples, slow twins, known limits, and what must never change it."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from sfumato.errors import InputError
from sfumato.metrics import correction_curve, relative_auc, relative_auc_difference, relative_auc_interval

quality = st.integers(0, 8).map(lambda n: n / 8)
cases = st.lists(st.tuples(st.integers(0, 2), quality, quality), min_size=1, max_size=6)
more_cases = st.lists(st.tuples(st.integers(-4, 4), quality, quality), min_size=1, max_size=40)


def columns(rows):
    return tuple(np.array(column, float) for column in zip(*rows, strict=True))


def slow_area(order, before, after):
    """Correct one case after the other and take the trapezium under every step."""
    state, area = list(before), 0.0
    for i in order:
        old = sum(state) / len(state)
        state[i] = after[i]
        area += (old + sum(state) / len(state)) / 2 / len(state)
    return area


def slow_relative(scores, before, after):
    """All orders that descend by the score, by the gain and against it; NaN where all orders are alike."""
    gains = after - before

    def mean_area(by):
        orders = [p for p in permutations(range(len(by))) if all(np.diff(by[list(p)]) <= 0)]
        return np.mean([slow_area(p, before, after) for p in orders])

    best, worst = mean_area(gains), mean_area(-gains)
    return (mean_area(scores) - worst) / (best - worst) if best - worst > 1e-12 else float("nan")


@settings(max_examples=60, deadline=None)
@given(cases)
def test_it_is_the_mean_over_all_orders_of_equal_scores(rows):
    scores, before, after = columns(rows)
    np.testing.assert_allclose(
        relative_auc(scores, before, after), slow_relative(scores, before, after), atol=1e-12
    )
    orders = [p for p in permutations(range(len(rows))) if all(np.diff(scores[list(p)]) <= 0)]
    area = np.mean([slow_area(p, before, after) for p in orders])
    assert correction_curve(scores, before, after).area == pytest.approx(area, abs=1e-12)


@settings(max_examples=80, deadline=None)
@given(more_cases)
def test_areas_by_trapezia_and_by_ranks_agree(rows):
    scores, before, after = columns(rows)
    gains = after - before
    best, worst, found = (correction_curve(by, before, after).area for by in (gains, -gains, scores))
    assert best + worst == pytest.approx(before.mean() + after.mean(), abs=1e-12)
    if np.ptp(gains) > 0:
        assert relative_auc(scores, before, after) == pytest.approx(
            (found - worst) / (best - worst), abs=1e-9
        )
        ranks, own = rankdata(scores), rankdata(gains)
        gini = np.cov(gains, ranks)[0, 1] / np.cov(gains, own)[0, 1]
        assert relative_auc(scores, before, after) == pytest.approx((1 + gini) / 2, abs=1e-9)
    else:
        assert np.isnan(relative_auc(scores, before, after))


@settings(max_examples=60, deadline=None)
@given(more_cases, st.randoms(use_true_random=False))
def test_only_the_order_of_the_scores_counts(rows, random):
    scores, before, after = columns(rows)
    value = relative_auc(scores, before, after)
    np.testing.assert_equal(relative_auc(np.exp(scores / 3), before, after), value)
    shuffled = list(rows)
    random.shuffle(shuffled)
    np.testing.assert_allclose(relative_auc(*columns(shuffled)), value, atol=1e-12)
    np.testing.assert_allclose(relative_auc(-scores, before, after), 1 - value, atol=1e-12)
    if not np.isnan(value):
        assert 0 <= value <= 1
        assert relative_auc(after - before, before, after) == 1
        assert relative_auc(before - after, before, after) == 0
        assert relative_auc(0 * scores, before, after) == 0.5


@settings(max_examples=40, deadline=None)
@given(more_cases)
def test_every_curve_ends_where_all_are_corrected(rows):
    scores, before, after = columns(rows)
    curve = correction_curve(scores, before, after)
    assert curve.share[0] == 0
    assert curve.share[-1] == 1
    assert curve.quality[0] == pytest.approx(before.mean())
    assert curve.quality[-1] == pytest.approx(after.mean())
    task = correction_curve(scores, before, np.maximum(before, after))
    assert (np.diff(task.quality) >= -1e-12).all()


def test_a_random_score_is_worth_one_half():
    rng = np.random.default_rng(0)
    gains = rng.exponential(size=200_000)
    assert relative_auc(rng.normal(size=200_000), 0 * gains, gains) == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("correlation", [0.3, 0.5, 0.7, 0.9])
def test_a_gaussian_score_is_worth_its_correlation(correlation):
    rng = np.random.default_rng(1)
    gains, noise = rng.normal(size=(2, 200_000))
    scores = correlation * gains + (1 - correlation**2) ** 0.5 * noise
    assert relative_auc(scores, 0 * gains, gains) == pytest.approx((1 + correlation) / 2, abs=0.005)


def test_equal_gains_are_undefined_in_spite_of_rounding():
    before = np.array([0.1, 0.2, 0.3, 0.7])
    after = before + 0.1
    assert np.ptp(after - before) > 0  # only by rounding
    assert np.isnan(relative_auc(np.arange(4), before, after))
    assert np.isnan(relative_auc(np.arange(0), np.arange(0), np.arange(0)))


def test_cases_that_are_not_known_are_left_out():
    scores, before = np.array([3.0, np.nan, 2, 1, 0]), np.array([0.1, 0.2, np.nan, 0.5, 0.6])
    after = np.array([0.9, 0.9, 0.9, 0.6, 0.6])
    kept = [0, 3, 4]
    assert relative_auc(scores, before, after) == relative_auc(scores[kept], before[kept], after[kept])
    assert len(correction_curve(scores, before, after).share) == 4
    groups = ["a", "b", "b", "c", "d"]
    assert relative_auc_interval(scores, before, after, groups).value == relative_auc(scores, before, after)


def drawn(count: int, seed: int):
    rng = np.random.default_rng(seed)
    before = rng.uniform(0, 0.8, count)
    gains = rng.exponential(0.1, count)
    good, poor = gains + rng.normal(0, 0.1, count), gains + rng.normal(0, 0.4, count)
    return good.round(1), poor.round(1), before, before + gains, [f"g{i}" for i in rng.integers(0, 25, count)]


def test_resamples_are_those_of_repeated_rows():
    good, _, before, after, groups = drawn(60, 0)
    found = relative_auc_interval(good, before, after, groups, seed=3, resamples=200)
    names, owner = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(3).integers(len(names), size=(200, len(names)))
    values = []
    for draw in draws:
        rows = np.concatenate([np.flatnonzero(owner == group) for group in draw])
        values.append(relative_auc(good[rows], before[rows], after[rows]))
    np.testing.assert_allclose([found.low, found.high], np.quantile(values, [0.025, 0.975]), atol=1e-12)
    assert found.value == relative_auc(good, before, after)
    assert found.low < found.value < found.high


def test_a_difference_is_paired():
    good, poor, before, after, groups = drawn(400, 1)
    one, other = (relative_auc_interval(s, before, after, groups) for s in (good, poor))
    found = relative_auc_difference((good, poor), before, after, groups)
    assert found.value == pytest.approx(one.value - other.value)
    assert found.excludes_zero
    same = relative_auc_difference((good, good), before, after, groups)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(InputError, match="one of each per case"):
        relative_auc(np.arange(3), np.arange(3), np.arange(2))
    with pytest.raises(InputError, match="one group per case"):
        relative_auc_interval(np.arange(3), np.arange(3), np.arange(3), ["a"])
    with pytest.raises(InputError, match="at least one"):
        correction_curve(np.array([np.nan]), np.ones(1), np.ones(1))
    with pytest.raises(InputError, match="at least one"):
        relative_auc_interval(np.array([np.nan]), np.ones(1), np.ones(1), ["a"])
