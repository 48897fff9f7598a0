"""Scores of cases, several readers, and intervals over patients against slow twins and scipy."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sfumato.errors import ConfigError, InputError
from sfumato.metrics import (
    ScoreHistogram,
    bootstrap_difference,
    bootstrap_mean,
    case_aurc,
    case_auroc,
    case_eaurc,
    common_edges,
    consensus,
    counts_by_patient,
    generalised_energy_distance,
    ncc,
    pooled_bootstrap,
    rank_resamples,
    rank_stability,
    reader_disagreement,
    resample_weights,
    resampled_areas,
    resampled_interval,
    selective,
    spearman,
)

judged = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 10).map(lambda i: i / 10)), min_size=1, max_size=20
).map(lambda c: np.array(c, float).T)
few_judged = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 10).map(lambda i: i / 10)), min_size=1, max_size=6
).map(lambda c: np.array(c, float).T)


@settings(max_examples=60, deadline=None)
@given(judged)
def test_rank_correlation_agrees_with_scipy(case):
    scores, risks = case
    if len(scores) < 3 or np.ptp(scores) == 0 or np.ptp(risks) == 0:
        assert np.isnan(spearman(scores, risks))
    else:
        assert spearman(scores, risks) == pytest.approx(stats.spearmanr(scores, risks).statistic, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(few_judged)
def test_tied_cases_are_the_mean_over_all_orderings(case):
    scores, risks = case
    found = [
        (np.cumsum(risks[list(p)]) / np.arange(1, len(p) + 1)).mean()
        for p in permutations(range(len(scores)))
        if (np.diff(scores[list(p)]) >= 0).all()
    ]
    assert case_aurc(scores, risks) == pytest.approx(np.mean(found), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(judged, st.randoms(use_true_random=False))
def test_neither_order_nor_an_increasing_map_changes_a_case_metric(case, random):
    scores, risks = case
    order = list(range(len(scores)))
    random.shuffle(order)
    for function in (spearman, case_aurc, case_eaurc, lambda s, r: case_auroc(s, 1 - r, 0.55)):
        np.testing.assert_equal(function(scores, risks), function(np.exp(scores[order]) - 9, risks[order]))


@settings(max_examples=60, deadline=None)
@given(judged)
def test_bad_cases_are_found_as_voxels_are(case):
    scores, risks = case
    expected = selective(scores, risks > 0.45).auroc
    np.testing.assert_allclose(case_auroc(scores, 1 - risks, 0.55), expected, atol=1e-12)
    assert case_eaurc(scores, risks) >= -1e-12
    assert case_eaurc(risks, risks) == 0


def test_undefined_cases_are_left_out():
    scores, risks = np.array([1, 2, np.nan, 3, 4]), np.array([0.1, 0.2, 0.9, np.nan, 0.3])
    assert spearman(scores, risks) == 1
    assert case_aurc(scores, risks) == pytest.approx(np.mean([0.1, 0.15, 0.2]))
    assert np.isnan(case_aurc(np.zeros(0), np.zeros(0)))
    assert case_aurc(np.zeros(4), np.array([0.0, 0.2, 0.4, 0.6])) == pytest.approx(0.3)
    with pytest.raises(InputError, match="2 scores for 3 cases"):
        spearman(np.zeros(2), np.zeros(3))


readings = st.integers(1, 5).flatmap(
    lambda readers: st.lists(
        st.lists(st.integers(-1, 3), min_size=readers, max_size=readers), min_size=1, max_size=8
    ).map(lambda v: np.array(v).T)
)


@settings(max_examples=60, deadline=None)
@given(readings)
def test_votes_by_their_definitions(labels):
    found, doubt = consensus(labels, 4), reader_disagreement(labels, 4)
    for voxel in range(labels.shape[1]):
        votes = labels[:, voxel][labels[:, voxel] >= 0]
        if not len(votes):
            assert found[voxel] == -1
            assert np.isnan(doubt[voxel])
            continue
        values, counts = np.unique(votes, return_counts=True)
        assert found[voxel] == values[counts == counts.max()].min()
        assert doubt[voxel] == pytest.approx(stats.entropy(counts), abs=1e-12)
    assert (found == consensus(labels[::-1], 4)).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_cross_correlation_agrees_with_numpy(pairs):
    a, b = np.array(pairs, float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(ncc(a, b))
    else:
        assert ncc(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-12)
        assert ncc(3 * a + 1, b) == pytest.approx(ncc(a, b), abs=1e-12)
        assert ncc(np.append(a, 99), np.append(b, np.nan)) == pytest.approx(ncc(a, b), abs=1e-12)


def twin_energy(samples, readers, classes):
    def distance(a, b):
        total = 0.0
        for c in range(1, classes):
            union = ((a == c) | (b == c)).sum()
            total += 1 - ((a == c) & (b == c)).sum() / union if union else 0
        return total / (classes - 1)

    def between(first, second):
        return np.mean([distance(a, b) for a, b in product(first, second)])

    return 2 * between(samples, readers) - between(samples, samples) - between(readers, readers)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.integers(1, 12))
def test_energy_distance_by_its_definition(seed, drawn, read, count):
    random = np.random.default_rng(seed)
    samples, readers = random.integers(3, size=(drawn, count)), random.integers(3, size=(read, count))
    found = generalised_energy_distance(samples, readers, 3)
    assert found == pytest.approx(twin_energy(samples, readers, 3), abs=1e-12)
    assert found == pytest.approx(
        generalised_energy_distance(samples[::-1], readers[:, ::-1][:, ::-1], 3), abs=1e-12
    )
    assert generalised_energy_distance(readers, readers, 3) == pytest.approx(0, abs=1e-12)


def test_readers_that_do_not_fit_are_refused():
    assert np.isnan(generalised_energy_distance(np.zeros((0, 4), int), np.zeros((2, 4), int), 2))
    assert np.isnan(ncc(np.zeros(0), np.zeros(0)))
    with pytest.raises(InputError, match="one grid"):
        generalised_energy_distance(np.zeros((1, 3), int), np.zeros((1, 4), int), 2)
    with pytest.raises(InputError, match="Class 5"):
        consensus(np.array([[5]]), 3)
    with pytest.raises(InputError, match="one shape"):
        ncc(np.zeros(2), np.zeros(3))


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("skewed", [False, True])
def test_intervals_agree_with_scipy_on_independent_cases(method, skewed):
    random = np.random.default_rng(3)
    values = random.exponential(size=40) if skewed else random.normal(size=40)
    names = [f"{i:02}" for i in range(40)]
    ours = bootstrap_mean(values, names, resamples=4000, method=method)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method=method, rng=np.random.default_rng(0)
    ).confidence_interval
    # The same generator draws the same resamples, so only rounding differs.
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_intervals_cover_the_truth_of_clustered_cases():
    random = np.random.default_rng(0)
    covered = {"clustered": 0, "as if independent": 0}
    for trial in range(200):
        values = np.repeat(random.normal(size=25), 4) + 0.3 * random.normal(size=100)
        owners = np.repeat(np.arange(25), 4).astype(str)
        for name, patients in (("clustered", owners), ("as if independent", np.arange(100).astype(str))):
            interval = bootstrap_mean(values, patients, seed=trial, resamples=300)
            covered[name] += interval.low <= 0 <= interval.high
    assert 0.88 <= covered["clustered"] / 200 <= 0.98
    assert covered["as if independent"] / 200 < 0.75


def test_intervals_of_little():
    alone = bootstrap_mean([0.2, 0.4], ["a", "a"], method="bca")
    assert (alone.low, alone.high) == pytest.approx((0.3, 0.3))
    level = bootstrap_mean([0.5] * 5, list("abcde"), method="bca")
    assert (level.low, level.high) == (0.5, 0.5)
    with pytest.raises(InputError, match="one patient per value"):
        bootstrap_mean([1.0], ["a", "b"])
    with pytest.raises(ConfigError, match="jackknife"):
        bootstrap_mean([1.0], ["a"], method="jackknife")
    with pytest.raises(ConfigError, match="0 patients"):
        resample_weights(0)
    nothing = resampled_interval(1.0, np.array([np.nan]))
    assert np.isnan([nothing.low, nothing.high]).all()
    assert (nothing.count, nothing.undefined) == (0, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.randoms(use_true_random=False))
def test_intervals_do_not_depend_on_the_order_of_cases(seed, count, random):
    values = np.random.default_rng(seed).normal(size=count)
    patients = [f"p{i % 5}" for i in range(count)]
    order = list(range(count))
    random.shuffle(order)
    for method in ("percentile", "bca"):
        first = bootstrap_mean(values, patients, resamples=100, method=method)
        assert first == bootstrap_mean(
            values[order], [patients[i] for i in order], resamples=100, method=method
        )


def test_differences_are_paired():
    random = np.random.default_rng(0)
    hard = random.random(30)
    patients = [str(i) for i in range(30)]
    result = bootstrap_difference(hard + 0.01, hard, patients)
    assert result.value == pytest.approx(0.01)
    assert result.excludes_zero
    assert bootstrap_difference([1.0, np.nan, 2.0], [np.nan, 1.0, 1.0], list("abc")).undefined == 2
    with pytest.raises(InputError, match="pairs"):
        bootstrap_difference([1.0], [1.0, 2.0], ["a"])


def histograms_of(cases):
    result = []
    for scores, errors in cases:
        histogram = ScoreHistogram()
        histogram.update(scores, errors)
        result.append(histogram)
    return result


def test_pooled_resamples_are_those_of_repeated_voxels():
    random = np.random.default_rng(0)
    # Few distinct powers of two: every score has a bin to itself, so nothing is lost by merging.
    cases = [(2.0 ** random.integers(0, 9, 40), random.random(40) < 0.3) for _ in range(6)]
    patients = ["b", "a", "b", "c", "a", "d"]
    histograms = histograms_of(cases)
    counts = counts_by_patient(histograms, patients, common_edges(histograms))
    weights = resample_weights(4, 12, seed=5)
    found = resampled_areas(counts, weights)
    for row, weight in enumerate(weights):
        times = [int(weight["abcd".index(p)]) for p in patients]
        scores = np.concatenate([np.tile(s, t) for (s, _), t in zip(cases, times, strict=True)])
        errors = np.concatenate([np.tile(e, t) for (_, e), t in zip(cases, times, strict=True)])
        exact = selective(scores, errors)
        for name, values in found.items():
            assert values[row] == pytest.approx(getattr(exact, name), rel=1e-12)


def test_pooled_intervals_hold_the_value_and_count_what_is_undefined():
    random = np.random.default_rng(1)
    cases = [(random.random(400), random.random(400) < 0.05) for _ in range(20)]
    histograms = histograms_of(cases)
    patients = [str(i) for i in range(20)]
    result = pooled_bootstrap(histograms, patients, resamples=200, groups=64)
    exact = selective(np.concatenate([c[0] for c in cases]), np.concatenate([c[1] for c in cases]))
    for name, interval in result.items():
        assert interval.low < interval.value < interval.high, name
        assert interval.value == pytest.approx(getattr(exact, name), rel=0.03), name
    lucky = histograms_of([(np.arange(4.0), np.zeros(4)), (np.arange(4.0), np.array([0, 0, 1, 1]))])
    auroc = pooled_bootstrap(lucky, ["a", "b"], resamples=100)["auroc"]
    assert 0 < auroc.undefined < 100
    assert auroc.count + auroc.undefined == 100
    with pytest.raises(InputError, match="as many"):
        pooled_bootstrap(histograms, patients[:3])


def test_ranks_by_hand():
    result = rank_resamples(
        {"a": np.array([3.0, 1, 2, np.nan]), "b": np.array([1.0, 1, 3, 1]), "c": np.zeros(4)}, True
    )
    assert [r.first for r in result.values()] == [0.5, 0.5, 0.0]
    assert [r.rank.value for r in result.values()] == [1.5, 1.5, 3.0]
    assert {(r.rank.count, r.rank.undefined) for r in result.values()} == {(3, 1)}
    undefined = rank_resamples({"a": np.array([np.nan])}, True)["a"]
    assert np.isnan([undefined.first, undefined.rank.value]).all()


def test_ranks_are_stable_only_where_methods_differ():
    random = np.random.default_rng(0)
    hard = random.random(40)
    values = {
        "good": hard + 0.2,
        "fair": hard + 0.01 * random.normal(size=40),
        "same": hard + 0.01 * random.normal(size=40),
    }
    values["good"][3] = np.nan
    patients = [str(i) for i in range(40)]
    result = rank_stability(values, patients, higher_is_better=True, resamples=500)
    assert result["good"].first == 1
    assert result["good"].rank.value == result["good"].rank.high == 1
    assert sum(r.first for r in result.values()) == pytest.approx(1)
    assert (result["fair"].rank.low, result["fair"].rank.high) == (2, 3)
    turned = rank_stability(values, patients, higher_is_better=False, resamples=500)
    assert turned["good"].rank.value == 3
    with pytest.raises(InputError, match="3 methods"):
        rank_stability(values, patients[:5], higher_is_better=True)
    with pytest.raises(InputError, match="No case"):
        rank_stability({"a": [np.nan]}, ["p"], higher_is_better=True)
