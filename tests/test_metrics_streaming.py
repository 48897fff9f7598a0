"""Histograms of scores: order, chunks and merging never matter, and the truth lies within the bounds."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, InputError, MissingExtraError
from sfumato.metrics import (
    CalibrationState,
    ScoreHistogram,
    accumulate,
    common_edges,
    kernels,
    risk_coverage_curve,
    selective,
)

AREAS = "auroc", "auprc", "aurc", "eaurc", "augrc"
# Near 1 a bin of 16 bits is 1/128 wide, so several of these share one; others stand alone or are negative.
near_scores = st.one_of(
    st.integers(0, 40).map(lambda i: 1 + i / 1024),
    st.sampled_from([-5.0, -1.001, -1.0, -0.0, 0.0, 1e-30, 7.0]),
)
voxels = st.lists(st.tuples(near_scores, st.booleans()), max_size=40)


def split(case):
    return np.array([c[0] for c in case], float), np.array([c[1] for c in case], bool)


def filled(scores, errors, bits=16, backend="numpy"):
    histogram = ScoreHistogram(bits)
    histogram.update(scores, errors, backend)
    return histogram


@settings(max_examples=200, deadline=None)
@given(voxels)
def test_the_truth_lies_within_the_bounds(case):
    scores, errors = split(case)
    exact, streamed = selective(scores, errors), filled(scores, errors).selective()
    assert streamed.count == exact.count
    for name in AREAS:
        value, (streamed_value, low, high) = getattr(exact, name), getattr(streamed, name)
        if np.isnan(value):
            assert np.isnan([streamed_value, low, high]).all()
        else:
            assert low <= value <= high
            assert low <= streamed_value <= high


@pytest.mark.parametrize("first", [True, False])
def test_the_bounds_are_reached(first):
    # One bin between two others; its errors come first or last.
    inside = 1 + np.arange(6) / 1024
    errors = np.array([0, *([1, 1, 0, 0, 0, 0] if first else [0, 0, 0, 0, 1, 1]), 1, 0])
    scores = np.concatenate([[-1.0], inside, [3.0, 4.0]])
    exact, streamed = selective(scores, errors), filled(scores, errors).selective()
    assert exact.auroc == pytest.approx(streamed.auroc.low if first else streamed.auroc.high, rel=1e-11)
    assert exact.aurc == pytest.approx(streamed.aurc.high if first else streamed.aurc.low, rel=1e-11)
    assert exact.augrc == pytest.approx(streamed.augrc.high if first else streamed.augrc.low, rel=1e-11)
    if first:
        assert exact.auprc == pytest.approx(streamed.auprc.low, rel=1e-11)
    else:
        tied = np.where(scores == inside[5], inside[4], scores)
        assert selective(tied, errors).auprc == pytest.approx(streamed.auprc.high, rel=1e-11)


def test_wide_bins_of_many_voxels():
    random = np.random.default_rng(0)
    errors = random.random(300_000) < 0.02
    scores = random.random(300_000, dtype=np.float32) ** np.where(errors, 0.5, 1).astype(np.float32)
    exact = selective(scores, errors)
    for bits, width in ((16, 5e-3), (20, 3e-4)):
        streamed = filled(scores, errors, bits).selective()
        for name in AREAS:
            value, (_, low, high) = getattr(exact, name), getattr(streamed, name)
            assert low <= value <= high
        assert streamed.auroc.bound < width


@settings(max_examples=60, deadline=None)
@given(voxels, st.integers(0, 40), st.randoms(use_true_random=False))
def test_order_chunks_and_merging_give_the_same_counts(case, cut, random):
    scores, errors = split(case)
    whole = filled(scores, errors)
    order = list(range(len(scores)))
    random.shuffle(order)
    assert filled(scores[order], errors[order]) == whole
    first, second = filled(scores[:cut], errors[:cut]), filled(scores[cut:], errors[cut:])
    assert first + second == second + first == whole
    first.update(scores[cut:], errors[cut:])
    assert first == whole


@settings(max_examples=60, deadline=None)
@given(voxels)
def test_an_increasing_map_stays_within_the_bounds(case):
    scores, errors = split(case)
    exact = selective(scores, errors)
    mapped = filled(np.exp(scores) * 3 - 5, errors).selective()
    if exact.count and 0 < errors.sum() < exact.count:
        # Tiny scores may round to one after exp, which only ever joins neighbours of equal bin.
        distinct = len(np.unique(np.exp(scores) * 3 - 5)) == len(np.unique(scores))
        assert not distinct or all(
            getattr(mapped, n).low <= getattr(exact, n) <= getattr(mapped, n).high for n in AREAS
        )


def test_the_curve_of_distinct_bins_is_exact():
    scores, errors = np.array([1.0, 2, 2, 4, 8, 16]), np.array([0, 1, 0, 0, 1, 1])
    for mine, theirs in zip(
        filled(scores, errors).risk_coverage(6), risk_coverage_curve(scores, errors, 6), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-14)


def test_no_voxel_and_one_class_are_undefined():
    empty = ScoreHistogram().selective()
    assert empty.count == 0
    assert np.isnan([*empty.auroc, *empty.auprc, *empty.aurc, *empty.augrc, empty.error_rate]).all()
    right = filled(np.arange(4.0), np.zeros(4)).selective()
    assert np.isnan([*right.auroc, *right.auprc]).all()
    assert right.aurc.value == right.aurc.high == 0
    assert np.isnan(ScoreHistogram().risk_coverage(3)[1]).all()


def test_what_cannot_be_counted_is_refused_whole():
    histogram = filled(np.array([1.0]), np.array([0]))
    for bad in (np.nan, np.inf, 1e39):
        with pytest.raises(InputError, match="finite"):
            histogram.update(np.append(np.zeros(200_000), bad), np.zeros(200_001))
    assert histogram.counts.sum() == 1
    with pytest.raises(ConfigError, match="16 or 20"):
        ScoreHistogram(8)
    with pytest.raises(ConfigError, match="expected"):
        ScoreHistogram(16, np.ones((2, 4), np.int64))
    with pytest.raises(ConfigError, match="do not add up"):
        ScoreHistogram(16) + ScoreHistogram(20)
    assert histogram != ScoreHistogram(20)


@settings(max_examples=40, deadline=None)
@given(st.lists(voxels, min_size=1, max_size=4), st.integers(1, 6))
def test_merged_bins_keep_every_voxel_in_order(cases, groups):
    histograms = [filled(*split(case)) for case in cases]
    edges = common_edges(histograms, groups)
    assert 1 <= len(edges) <= groups
    assert edges[0] == 0
    assert (np.diff(edges) > 0).all()
    for histogram in histograms:
        merged = histogram.coarsened(edges)
        expected = np.stack([part.sum(1) for part in np.split(histogram.counts, edges[1:], axis=1)], axis=1)
        np.testing.assert_array_equal(merged, expected)


def test_merged_bins_have_near_equal_mass():
    histogram = filled(np.random.default_rng(0).random(50_000), np.zeros(50_000))
    sizes = histogram.coarsened(common_edges([histogram], 16)).sum(0)
    assert len(sizes) == 16
    assert sizes.max() < 1.3 * sizes.min()
    with pytest.raises(ConfigError, match="groups"):
        common_edges([histogram], 0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(width=32, allow_nan=False, allow_infinity=False),
            st.booleans(),
            st.floats(0, 1, width=32),
        ),
        max_size=60,
    ),
    st.sampled_from([16, 20]),
    st.sampled_from([np.float32, np.float64]),
)
def test_the_compiled_pass_gives_the_same_integers(case, bits, dtype):
    pytest.importorskip("numba")
    scores = np.array([c[0] for c in case], np.float32)
    errors = np.array([c[1] for c in case], bool)
    confidences = np.array([c[2] for c in case], dtype)
    apart, together = [], []
    for backend in ("numpy", "numba"):
        histogram, state = ScoreHistogram(bits), CalibrationState()
        histogram.update(scores, errors, backend)
        state.update_confidence(confidences, ~errors, backend)
        apart.append((histogram, state))
        histogram, state = ScoreHistogram(bits), CalibrationState()
        accumulate(histogram, state, scores, errors, confidences, backend)
        together.append((histogram, state))
    assert apart[0] == apart[1] == together[0] == together[1]


def test_the_backend_is_chosen_by_size(monkeypatch):
    with pytest.raises(ConfigError, match="cuda"):
        kernels.uses_numba("cuda", 1)
    monkeypatch.setattr(kernels, "ready", set())
    assert not kernels.uses_numba("auto", 1000)
    kernels.ready.add("buckets")
    assert not kernels.uses_numba("auto", 1000)
    monkeypatch.setattr(kernels, "find_spec", lambda name: None)
    assert not kernels.uses_numba("auto", 1 << 30)
    with pytest.raises(MissingExtraError, match=r"sfumato\[fast\]"):
        kernels.uses_numba("numba", 1)


def test_one_pass_refuses_what_the_parts_refuse():
    histogram, state = ScoreHistogram(), CalibrationState()
    two = np.zeros(2)
    with pytest.raises(InputError, match="3 confidences"):
        accumulate(histogram, state, two, two, np.zeros(3))
    with pytest.raises(InputError, match=r"\[0, 1\]"):
        accumulate(histogram, state, two, two, np.array([0.5, 1.5]))
    with pytest.raises(InputError, match="2 classes"):
        accumulate(histogram, CalibrationState(2), two, two, two)
    assert histogram == ScoreHistogram()
    assert state == CalibrationState()


def test_the_result_names_every_area():
    assert [f.name for f in fields(ScoreHistogram().selective())][:5] == list(AREAS)
