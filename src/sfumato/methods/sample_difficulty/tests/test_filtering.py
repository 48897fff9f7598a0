"""Filters: exact counts, ties, four policies, patients."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.methods.sample_difficulty.filtering import (
    class_filter,
    exact_share,
    kept_count,
    quantile_filter,
)
from sfumato.methods.sample_difficulty.range import ReferenceRange
from sfumato.methods.sample_difficulty.reference import reference_class_kept, reference_kept

PERCENT = st.integers(1, 100).map(lambda n: Fraction(n, 100))
CLASSES = "liver", "tumour", "vein"


def drawn(seed: int, cases: int, absent: float = 0.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 12, (len(CLASSES), cases)) / 12
    values[rng.random(values.shape) < absent] = np.nan
    return dict(zip(CLASSES, values, strict=True))


@pytest.mark.parametrize(
    ("count", "share", "kept"),
    [
        (131, "0.95", 125),
        (131, "0.90", 118),
        (200, "0.95", 190),
        (20, "0.95", 19),
        (10, "0.95", 10),
        (1228, "0.95", 1167),
        (100, "0.07", 7),
        (100, 0.07, 7),
        (100, Fraction(7, 100), 7),
        (0, 0.5, 0),
        (7, 1, 7),
    ],
)
def test_counts(count, share, kept):
    assert kept_count(count, share) == kept  # E7


def test_what_floats_would_have_counted():
    assert math.ceil(0.07 * 100) == 8
    values = np.random.default_rng(0).permutation(131)
    assert (values <= np.quantile(values, 0.95)).sum() == 124  # numpy's linear quantile
    assert quantile_filter(values, "0.95").kept.sum() == 125


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), PERCENT, st.integers(0, 2**32 - 1))
def test_without_ties_the_count_is_exact_and_shares_nest(count, share, seed):
    values = np.random.default_rng(seed).permutation(count)
    found = quantile_filter(values, share)
    assert found.kept.sum() == found.wanted == math.ceil(share * count)  # P19
    assert found.kept.tolist() == reference_kept(values.tolist(), share)
    assert quantile_filter(values, 1).kept.all()
    smaller = quantile_filter(values, share / 2).kept
    assert (smaller <= found.kept).all()
    assert quantile_filter(values, str(float(share))).kept.tolist() == found.kept.tolist()


@pytest.mark.parametrize("share", [1 / 8, 1 / 2, 3 / 4, 1.0])  # numpy's own counts are exact for these
@pytest.mark.parametrize("count", [1, 7, 64])
def test_the_threshold_is_numpy_s_left_quantile(count, share):
    values = np.random.default_rng(count).normal(size=count)
    wanted = np.quantile(values, share, method="inverted_cdf")
    assert quantile_filter(values, share).thresholds[""] == wanted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), PERCENT)
def test_ties_stay_or_go_by_name(values, share):
    names = [f"case{i}" for i in range(len(values))]
    kept = quantile_filter(values, share)
    assert kept.kept.tolist() == reference_kept(values, share)
    strict = quantile_filter(values, share, "strict_k", names)
    assert strict.kept.sum() == kept_count(len(values), share)
    assert (strict.kept <= kept.kept).all()
    order = np.random.default_rng(0).permutation(len(values))
    again = quantile_filter(np.array(values)[order], share, "strict_k", [names[i] for i in order])
    assert again.kept.tolist() == strict.kept[order].tolist()


def test_ties_of_the_worked_example():
    values = [0.1, 0.2, 0.2, 0.9, 0.9, 0.9]  # E7
    assert quantile_filter(values, "0.5").kept.sum() == 3
    found = quantile_filter(values, "0.6")
    assert (found.wanted, int(found.kept.sum()), found.kept_share) == (4, 6, 1.0)
    assert found.thresholds == {"": 0.9}


def test_one_set_by_difficulty_by_logarithm_and_by_scale():
    scales = np.random.default_rng(1).uniform(0.01, 0.9, 57)
    difficulty = ReferenceRange.from_values(scales)(scales)
    wanted = quantile_filter(difficulty, 0.9).kept
    for values in (-np.log(scales), -scales):
        assert (quantile_filter(values, 0.9).kept == wanted).all()  # P20


def test_equal_cases_all_stay_and_flagged_ones_go_first():
    equal = ReferenceRange.from_values([0.3] * 5)([0.3] * 5)
    assert quantile_filter(equal, 0.5).kept.all()  # P18
    values = [0.4, math.inf, 1.0, 0.0, 0.2]
    assert quantile_filter(values, "0.8").kept.tolist() == [True, False, True, True, True]


def test_small_sets_are_warned_about():
    assert "less than one case would go" in quantile_filter(range(10), "0.95").warning
    assert quantile_filter(range(20), "0.95").warning == ""
    assert quantile_filter(range(3), 1).warning == ""
    few = {"a": np.arange(40.0), "b": np.array([1.0, 2.0] + [np.nan] * 38)}
    assert class_filter(few, "0.9", "any").warning.startswith("2 cases")


def test_policies_of_the_worked_example():
    values = {"1": np.array([0.1, 0.2, 0.95, 0.5, 0.4]), "2": np.array([0.9, 0.3, 0.2, 0.5, 0.1])}  # E9
    found = class_filter(values, "0.8", "any")
    assert found.thresholds == {"1": 0.5, "2": 0.5}
    assert found.kept.all()
    assert class_filter(values, "0.8", "all").kept.tolist() == [False, True, False, True, True]
    target = class_filter(values, "0.8", "target", ("2",))
    assert target.kept.tolist() == [False, True, True, True, True]
    assert target.kept_share == 0.8
    pairs = class_filter(values, "0.8", "pairs")
    assert pairs.kept.all()
    assert pairs.pairs is not None
    assert {k: v.tolist() for k, v in pairs.pairs.items()} == {
        "1": [True, True, False, True, True],
        "2": [False, True, True, True, True],
    }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), PERCENT, st.sampled_from([0.0, 0.3]))
def test_policies_are_their_slow_twins_and_nest(seed, cases, share, absent):
    values = drawn(seed, cases, absent)
    plain = {k: v.tolist() for k, v in values.items()}
    kept = {}
    for policy, target in (("any", ()), ("all", ()), ("target", CLASSES[1:2])):
        kept[policy] = class_filter(values, share, policy, target).kept
        assert kept[policy].tolist() == reference_class_kept(plain, share, policy, target)
    assert (kept["all"] <= kept["target"]).all()  # P21
    assert (kept["target"] <= kept["any"]).all()


def test_independent_classes_drop_what_the_formulas_say():
    rng = np.random.default_rng(2)
    values = {str(c): rng.random(40_000) for c in range(2)}
    assert class_filter(values, 0.95, "any").kept_share == pytest.approx(1 - 0.05**2, abs=1e-3)
    assert class_filter(values, 0.95, "all").kept_share == pytest.approx(0.95**2, abs=5e-3)


def test_an_absent_class_cannot_fail():
    values = {"a": np.array([0.1, np.nan, 0.9]), "b": np.array([np.nan, np.nan, 0.5])}
    assert class_filter(values, "0.5", "all").kept.tolist() == [True, True, False]
    assert class_filter(values, "0.5", "target", ("b",)).kept.all()


def test_patients_stay_whole():
    found = quantile_filter([0.1, 0.9, 0.8, 0.95, 0.2], "0.4")
    assert found.kept.tolist() == [True, False, False, False, True]
    whole = found.by_patient(["p", "p", "q", "q", "r"])
    assert whole.kept.tolist() == [True, True, False, False, True]
    assert (found.kept_share, whole.kept_share) == (0.4, 0.6)
    assert (whole.wanted, whole.thresholds) == (found.wanted, found.thresholds)
    with pytest.raises(InputError, match="2 patients for 5 cases"):
        found.by_patient(["p", "q"])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("abcd")), min_size=1, max_size=20), PERCENT)
def test_no_patient_is_torn_and_none_is_lost_over_one_case(cases, share):
    found = quantile_filter([v for v, _ in cases], share)
    patients = [p for _, p in cases]
    whole = found.by_patient(patients)
    assert (found.kept <= whole.kept).all()
    for patient in set(patients):
        at = [i for i, p in enumerate(patients) if p == patient]
        assert set(whole.kept[at].tolist()) == {bool(found.kept[at].any())}


@pytest.mark.parametrize("share", [0, 1.5, -0.1, "0", "much", "nan", "1/0"])
def test_shares_that_are_none(share):
    with pytest.raises(ConfigError, match="share="):
        exact_share(share)


def test_mistakes_are_our_errors():
    with pytest.raises(ConfigError, match="ties='drop'"):
        quantile_filter([0.1], 0.5, "drop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="without names"):
        quantile_filter([0.1, 0.2], 0.5, "strict_k")
    with pytest.raises(InputError, match="1 names for 2 cases"):
        quantile_filter([0.1, 0.2], 0.5, "strict_k", ["a"])
    with pytest.raises(InputError, match="1 values are NaN"):
        quantile_filter([0.1, math.nan], 0.5)
    values = drawn(3, 4)
    with pytest.raises(ConfigError, match="policy='most'"):
        class_filter(values, 0.5, "most")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected classes with 'target'"):
        class_filter(values, 0.5, "target")
    with pytest.raises(ConfigError, match="none without it"):
        class_filter(values, 0.5, "all", ("liver",))
    with pytest.raises(UnknownNameError, match="did you mean 'tumour'"):
        class_filter(values, 0.5, "target", ("tumor",))
    for wrong in ({}, {"a": np.zeros(2), "b": np.zeros(3)}):
        with pytest.raises(InputError, match="expected one number of cases"):
            class_filter(wrong, 0.5, "all")
