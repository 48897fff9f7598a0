"""Calibration counters: the same bits however voxels come, close to the definitions, and no limit of float32."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, InputError
from sfumato.metrics import CalibrationState, brier, negative_log_likelihood, reliability
from sfumato.metrics.calibration_state import CEILING
from sfumato.metrics.equal_mass import equal_mass_ece

CLASSES = 3
seeds = st.integers(0, 2**32 - 1)
counts = st.integers(1, 60)


def drawn(seed, count, ignored=0.2):
    random = np.random.default_rng(seed)
    logits = 3 * random.normal(size=(CLASSES, count))
    probability = np.exp(logits) / np.exp(logits).sum(0)
    probability[:, random.random(count) < 0.2] = np.eye(CLASSES)[:, :1]
    label = random.integers(CLASSES, size=count)
    label[random.random(count) < ignored] = -1
    return probability.astype(np.float32), label


def filled(probability, label, prediction=None, backend="numpy"):
    state = CalibrationState(CLASSES)
    state.update(probability, label, prediction, backend)
    return state


@settings(max_examples=60, deadline=None)
@given(seeds, counts, st.integers(0, 60))
def test_order_chunks_and_merging_give_the_same_bits(seed, count, cut):
    p, y = drawn(seed, count)
    whole = filled(p, y)
    order = np.random.default_rng(seed).permutation(count)
    assert filled(p[:, order], y[order]) == whole
    first, second = filled(p[:, :cut], y[:cut]), filled(p[:, cut:], y[cut:])
    assert first + second == second + first == whole
    first.update(p[:, cut:], y[cut:])
    assert first == whole


@settings(max_examples=60, deadline=None)
@given(seeds, counts)
def test_agrees_with_the_plain_functions(seed, count):
    p, y = drawn(seed, count)
    state, known = filled(p, y), y >= 0
    q, truth = p[:, known].astype(float), y[known]
    right = q.argmax(0) == truth
    expected = [
        reliability(q.max(0, initial=0), right).ece,
        brier(q, truth),
        negative_log_likelihood(q, truth),
    ]
    np.testing.assert_allclose([state.ece, state.brier, state.nll], expected, atol=4e-9)
    classwise = np.mean([reliability(q[c], truth == c).ece for c in range(CLASSES)])
    np.testing.assert_allclose(state.ece_classwise, classwise, atol=4e-9)
    if known.any():
        bins = state.reliability
        np.testing.assert_array_equal(bins.count, reliability(q.max(0), right).count)
        there = bins.count > 0
        np.testing.assert_allclose(
            bins.mean_accuracy[there], (bins.accuracy / np.maximum(bins.count, 1))[there]
        )
        assert np.isnan(bins.mean_confidence[~there]).all()


@settings(max_examples=60, deadline=None)
@given(seeds, counts, st.integers(0, 60))
def test_plain_functions_know_no_order(seed, count, cut):
    p, y = drawn(seed, count, ignored=0)
    order, q = np.random.default_rng(seed).permutation(count), p.max(0)
    assert brier(p[:, order], y[order]) == pytest.approx(brier(p, y), abs=1e-12)
    assert negative_log_likelihood(p[:, order], y[order]) == pytest.approx(
        negative_log_likelihood(p, y), abs=1e-12
    )
    right = p.argmax(0) == y
    whole, merged = (
        reliability(q, right),
        reliability(q[:cut], right[:cut]) + reliability(q[cut:], right[cut:]),
    )
    assert merged.ece == pytest.approx(whole.ece, abs=1e-12)
    assert reliability(q[order], right[order]).ece == pytest.approx(whole.ece, abs=1e-12)


def test_plain_functions_of_nothing_are_undefined():
    none = np.zeros((2, 0))
    numbers = brier(none, none[0]), negative_log_likelihood(none, none[0]), reliability(none[0], none[0]).ece
    assert np.isnan(numbers).all()


def sorted_twin(confidence, right, bins):
    """Equal-mass ECE of distinct confidences by sorting; as many voxels in every bin."""
    order = np.argsort(1 - confidence, kind="stable")
    gaps = (right[order].astype(float) - confidence[order]).reshape(bins, -1).sum(1)
    return np.abs(gaps).sum() / len(confidence)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 40), st.sampled_from([1, 2, 5, 15]), st.sampled_from([0.02, 1.0, 6.0]))
def test_equal_mass_stays_within_its_bound(seed, each, bins, power):
    random = np.random.default_rng(seed)
    confidence = 1 - random.random(each * bins) ** power
    right = random.random(each * bins) < confidence
    state = CalibrationState(bins=bins)
    state.update_confidence(confidence, right)
    assert (
        abs(state.ece_equal_mass - sorted_twin(confidence, right, bins)) <= state.ece_equal_mass_bound + 1e-9
    )


def test_equal_mass_of_many_voxels_is_close():
    random = np.random.default_rng(0)
    confidence = 1 - 0.5 * random.random(300_000) ** 3
    right = random.random(300_000) < confidence - 0.1
    state = CalibrationState()
    state.update_confidence(confidence, right)
    assert state.ece_equal_mass == pytest.approx(sorted_twin(confidence, right, 15), abs=1e-4)
    assert state.ece_equal_mass_bound < 0.01


def test_equal_confidences_are_spread_over_the_cuts():
    state = CalibrationState(bins=4)
    state.update_confidence(np.full(8, 0.75), np.arange(8) < 5)
    assert state.ece_equal_mass == pytest.approx(0.125, abs=1e-9)
    assert np.isnan(equal_mass_ece(np.zeros((4, 3), int), 2)).all()


def test_confidence_is_that_of_the_given_label():
    p, y = np.array([[0.6, 0.3], [0.4, 0.7]], np.float32), np.array([1, 1])
    given = CalibrationState(2)
    given.update(p, y, prediction=np.array([1, 1]))
    assert given.ece == pytest.approx((0.6 + 0.3) / 2, abs=1e-7)
    usual = CalibrationState(2)
    usual.update(p, y)
    assert usual.ece == pytest.approx((0.6 + 0.3) / 2, abs=1e-7)
    assert given != usual
    tie = CalibrationState(2)
    tie.update(np.array([[0.5], [0.5]]), np.array([0]))
    assert tie.table[:, 2].sum() == 1


def test_golden_numbers_of_one_voxel():
    state = CalibrationState(3)
    state.update(np.array([0.5956922, 0.2762230, 0.1280849]).reshape(3, 1, 1), np.zeros((1, 1), int))
    assert state.brier == pytest.approx(0.2561697, abs=1e-6)
    assert state.nll == pytest.approx(0.5180313, abs=1e-6)


def test_certain_and_wrong_is_finite():
    state = CalibrationState(2)
    state.update(np.array([[1.0], [0.0]]), np.array([1]))
    assert (state.ece, state.brier) == (1, 2)
    assert state.nll == pytest.approx(-np.log(1e-12), abs=1e-8)


def test_no_voxel_and_no_class_are_undefined():
    for state in (CalibrationState(), CalibrationState(2)):
        numbers = (
            state.ece,
            state.ece_equal_mass,
            state.ece_equal_mass_bound,
            state.ece_classwise,
            state.brier,
            state.nll,
        )
        assert np.isnan(numbers).all()
    state = CalibrationState()
    state.update_confidence(np.array([0.5]), np.array([1]))
    assert state.ece == 0.5
    assert np.isnan([state.brier, state.nll, state.ece_classwise]).all()


def test_a_float32_counter_stops_where_ours_goes_on():
    state = CalibrationState()
    state.update_confidence(np.array([1.0, 1.0, 1.0, 0.96], np.float32), np.array([1, 1, 1, 0]))
    before = state.ece
    for _ in range(25):
        state = state + state
    assert state.count == 2**27 == state.table[-1, 0]
    assert state.ece == before
    # torchmetrics adds ones to a float32 zero in this way (its `_binning_bucketize`), and stops at 2^24.
    ones, place = torch.ones(1).expand(2**24 + 1000), torch.zeros(1, dtype=torch.long).expand(2**24 + 1000)
    assert torch.zeros(1).scatter_add_(0, place, ones).item() == 2**24
    assert np.float32(2**24) + np.float32(1) == 2**24


def test_a_sum_that_could_overflow_is_refused_whole():
    state = CalibrationState(2)
    state.sums[0] = CEILING - 10
    untouched = CalibrationState(2) + state
    with pytest.raises(InputError, match="overflow"):
        state.update(np.array([[0.5], [0.5]]), np.array([0]))
    assert state == untouched
    with pytest.raises(InputError, match="overflows"):
        state + state
    alone = CalibrationState()
    with pytest.raises(InputError, match="overflow"):
        alone.check_room(2**31)
    alone.check_room(2**31 - 1)


def test_what_does_not_fit_is_refused():
    p, y = np.full((2, 3), 0.5), np.zeros(3, int)
    state = CalibrationState(2)
    for arguments, text in (
        ((p[:, :2], y), "expected"),
        ((np.full((3, 3), 0.3), y), "expected"),
        ((p, y + 2), "Class 2"),
        ((p, y, y - 1), "negative"),
        ((p, y, y[:2]), "2 predictions"),
        ((p + 1, y), "outside"),
        ((p * np.nan, y), "NaN"),
    ):
        with pytest.raises(InputError, match=text):
            state.update(*arguments)
    with pytest.raises(InputError, match="2 classes"):
        state.update_confidence(y, y)
    with pytest.raises(InputError, match="3 confidences"):
        CalibrationState().update_confidence(np.zeros(3), np.zeros(2))
    with pytest.raises(ConfigError, match="classes"):
        CalibrationState(1)
    with pytest.raises(ConfigError, match="do not add up"):
        state + CalibrationState(3)
    assert state == CalibrationState(2)
    assert state != "state"
