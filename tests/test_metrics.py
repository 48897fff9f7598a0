from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from sfumato.errors import InputError
from sfumato.metrics import (
    bootstrap_mean,
    brier,
    dice_per_class,
    negative_log_likelihood,
    region_masks,
    reliability,
    risk_coverage_curve,
    selective,
)

scores_and_errors = st.integers(2, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-3, 3), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


def aurc_by_definition(errors):
    return np.mean(np.cumsum(errors) / np.arange(1, len(errors) + 1))


def augrc_by_definition(errors):
    return np.mean(np.cumsum(errors) / len(errors))


@pytest.mark.parametrize(
    ("errors", "aurc"),
    [
        ([0] * 8 + [1, 1], 0.0311111),
        ([1, 1] + [0] * 8, 0.4857937),
        ([0, 0, 1, 0, 0, 0, 0, 1, 0, 1], 0.1865079),
    ],
)
def test_aurc_of_ten_voxels(errors, aurc):
    assert selective(np.arange(10.0), np.array(errors)).aurc == pytest.approx(aurc, abs=5e-8)


def test_constant_score_gives_the_error_rate_and_half():
    result = selective(np.zeros(4), np.array([0, 1, 0, 0]))
    assert result.aurc == pytest.approx(0.25)
    assert result.auroc == 0.5


@pytest.mark.parametrize("errors", [[0, 0, 0], [1, 1, 1]])
def test_one_class_is_undefined_not_half(errors):
    result = selective(np.arange(3.0), np.array(errors))
    assert np.isnan(result.auroc)
    assert result.aurc == pytest.approx(errors[0])


def test_no_voxel_is_undefined():
    result = selective(np.zeros(0), np.zeros(0))
    assert result.count == 0
    assert np.isnan(result.aurc)


def test_nan_and_unequal_shapes_are_refused():
    with pytest.raises(InputError, match="NaN"):
        selective(np.array([np.nan, 1.0]), np.array([0, 1]))
    with pytest.raises(InputError, match="3 scores and 2 errors"):
        selective(np.zeros(3), np.zeros(2))


@settings(max_examples=60, deadline=None)
@given(scores_and_errors)
def test_agrees_with_scikit_learn(case):
    scores, errors = np.array(case[0], float), np.array(case[1])
    result = selective(scores, errors)
    if 0 < errors.sum() < len(errors):
        assert result.auroc == pytest.approx(roc_auc_score(errors, scores), abs=1e-12)
    if errors.any():
        assert result.auprc == pytest.approx(average_precision_score(errors, scores), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(scores_and_errors, st.randoms(use_true_random=False))
def test_neither_order_nor_an_increasing_map_matters(case, random):
    scores, errors = np.array(case[0], float), np.array(case[1])
    order = list(range(len(scores)))
    random.shuffle(order)
    first, second = selective(scores, errors), selective(np.exp(scores[order]) * 1e6, errors[order])
    np.testing.assert_allclose(
        [first.auroc, first.auprc, first.aurc, first.augrc],
        [second.auroc, second.auprc, second.aurc, second.augrc],
        rtol=1e-12,
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_ties_are_the_mean_over_all_orderings(case):
    scores, errors = np.array([c[0] for c in case], float), np.array([c[1] for c in case], float)
    by_order = [
        (aurc_by_definition(errors[list(p)]), augrc_by_definition(errors[list(p)]))
        for p in permutations(range(len(case)))
        if all(np.diff(scores[list(p)]) >= 0)
    ]
    result = selective(scores, errors)
    assert (result.aurc, result.augrc) == pytest.approx(tuple(np.mean(by_order, axis=0)), abs=1e-12)


def test_perfect_ranking_has_no_excess():
    errors = np.zeros(20000)
    errors[-400:] = 1
    assert selective(np.arange(20000.0), errors).eaurc == pytest.approx(0, abs=1e-5)


def test_risk_coverage_curve_ends_at_the_error_rate():
    rng = np.random.default_rng(0)
    scores, errors = rng.random(500), rng.random(500) < 0.2
    coverage, risk = risk_coverage_curve(scores, errors, 10)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(errors.mean())
    assert risk[4] == pytest.approx(errors[np.argsort(scores)[:250]].mean())


def test_ece_of_six_voxels_and_its_merge():
    p, right = np.array([0.95] * 4 + [0.55] * 2), np.array([1, 1, 1, 0, 1, 0])
    assert reliability(p, right).ece == pytest.approx(0.15)
    assert (reliability(p[:3], right[:3]) + reliability(p[3:], right[3:])).ece == pytest.approx(0.15)


def test_ece_of_a_calibrated_sampler_vanishes():
    rng = np.random.default_rng(1)
    p = rng.random(400_000)
    assert reliability(p, rng.random(p.size) < p).ece < 0.004


def test_brier_and_likelihood_of_one_voxel():
    p = np.array([0.5956922, 0.2762230, 0.1280849]).reshape(3, 1, 1)
    assert brier(p, np.zeros((1, 1), int)) == pytest.approx(0.2561697, abs=1e-6)
    assert negative_log_likelihood(p, np.zeros((1, 1), int)) == pytest.approx(0.5180313, abs=1e-6)


def test_dice_by_class_and_where_it_is_undefined():
    prediction, label = np.array([0, 1, 1, 2, 0]), np.array([0, 1, 2, 2, -1])
    np.testing.assert_allclose(dice_per_class(prediction, label, 4), [2 / 3, 2 / 3, np.nan])


def test_regions_follow_the_distance():
    label = np.zeros((20, 20), int)
    label[10, 10] = 1
    masks = region_masks(np.zeros_like(label), label)
    rows, columns = np.indices(label.shape)
    distance = np.hypot(rows - 10, columns - 10)
    np.testing.assert_array_equal(masks["near"], distance <= 5)
    assert masks["foreground"].sum() == 1
    label[0, 0] = -1
    assert masks["whole"].all()
    assert not region_masks(np.zeros_like(label), label)["whole"][0, 0]


def test_regions_of_nothing_are_empty():
    empty = np.zeros((4, 4), int)
    masks = region_masks(empty, empty)
    assert masks["whole"].all()
    assert not masks["near"].any()


def test_bootstrap_resamples_patients_not_cases():
    values = [0.0] * 50 + [1.0] * 50
    apart = bootstrap_mean(values, [str(i) for i in range(100)])
    together = bootstrap_mean(values, ["a"] * 50 + ["b"] * 50)
    assert together.high - together.low > 2 * (apart.high - apart.low)
    assert apart.value == together.value == 0.5


def test_bootstrap_counts_what_is_undefined():
    result = bootstrap_mean([1.0, float("nan"), 1.0], ["a", "b", "c"])
    assert (result.value, result.count, result.undefined) == (1.0, 2, 1)
    assert result.excludes_zero
    assert np.isnan(bootstrap_mean([float("nan")], ["a"]).value)
