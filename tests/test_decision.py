"""Accept or review: what is accepted keeps the wanted risk, as much as possible is accepted, ties stay together."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sfumato.decision import DecisionRule, fit_decision_rule
from sfumato.errors import ConfigError, InputError

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
scores = st.lists(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.1, 0.25, 0.5, 0.9, 3.0]), st.floats(0, 1), st.integers(1, 5)),
    min_size=1,
    max_size=20,
)
targets = st.floats(0, 1)


def fit(rows, target, **options) -> DecisionRule:
    columns = np.array(rows, float).T
    return fit_decision_rule(columns[0], columns[1], target, weights=columns[2], **options)


def risk_below(rows, threshold) -> tuple[float, float]:
    """Mean risk and share of what has at most this score; the slow way."""
    accepted = [(risk, weight) for score, risk, weight in rows if score <= threshold]
    weight = sum(w for _, w in accepted)
    mean = sum(r * w for r, w in accepted) / weight if weight else 0.0
    return mean, weight / sum(w for _, _, w in rows)


@given(rows=scores, target=targets)
@REPEATABLE
def test_what_is_accepted_keeps_the_wanted_risk(rows, target):
    rule = fit(rows, target)
    risk, coverage = risk_below(rows, rule.threshold)
    assert risk <= target + 1e-9
    assert rule.selective_risk == pytest.approx(risk)
    assert rule.coverage == pytest.approx(coverage)
    assert rule.count == len(rows)
    for score, _, _ in rows:
        assert (rule.decide(score).verdict == "accept") == (score <= rule.threshold)


@given(rows=scores, target=targets)
@REPEATABLE
def test_no_larger_threshold_would_do(rows, target):
    rule = fit(rows, target)
    for score, _, _ in rows:
        if score > rule.threshold:
            assert risk_below(rows, score)[0] > target - 1e-9


@given(rows=scores, first=targets, second=targets)
@REPEATABLE
def test_a_higher_target_accepts_at_least_as_much(rows, first, second):
    low, high = sorted((first, second))
    assert fit(rows, low).threshold <= fit(rows, high).threshold
    assert fit(rows, low).coverage <= fit(rows, high).coverage


@given(rows=scores, target=targets, seed=st.integers(0, 99))
@REPEATABLE
def test_order_does_not_matter(rows, target, seed):
    shuffled = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    one, other = fit(rows, target), fit(shuffled, target)
    # Sums in another order differ in the last digit, which decides where a risk equals the target.
    assume(all(abs(risk_below(rows, s)[0] - target) > 1e-9 for s, _, _ in rows))
    assert one.threshold == other.threshold
    assert one.coverage == pytest.approx(other.coverage)


@given(rows=scores, target=targets)
@REPEATABLE
def test_a_weight_is_a_repetition(rows, target):
    repeated = [(s, r, 1) for s, r, w in rows for _ in range(w)]
    assume(all(abs(risk_below(rows, s)[0] - target) > 1e-9 for s, _, _ in rows))
    assert fit(rows, target).threshold == fit(repeated, target).threshold


def test_ties_are_accepted_together_or_not_at_all():
    rule = fit_decision_rule(np.array([0.5, 0.5, 0.5, 0.9]), np.array([0.0, 0.0, 0.9, 0.0]), 0.1)
    assert rule.threshold == -math.inf
    assert rule.coverage == 0
    rule = fit_decision_rule(np.array([0.5, 0.5, 0.5, 0.9]), np.array([0.0, 0.0, 0.9, 0.0]), 0.3)
    assert (rule.threshold, rule.coverage) == (0.9, 1.0)


def test_nothing_acceptable_sends_everything_to_review():
    rule = fit_decision_rule(np.array([0.1, 0.2]), np.array([0.5, 0.6]), 0.05)
    for score in (-1e9, 0.0, 0.15, 1e9):
        decision = rule.decide(score)
        assert decision.verdict == "review"
        assert decision.reason == "No calibration case could be accepted at a mean 1 - Dice of 0.05."


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_reviewed(score):
    rule = fit_decision_rule(np.array([0.1, 0.2]), np.array([0.0, 0.0]), 0.5)
    decision = rule.decide(score)
    assert (decision.verdict, decision.reason) == ("review", "The score is not a finite number.")


def test_reasons_say_score_limit_and_basis():
    rule = fit_decision_rule(np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.1, 0.8]), 0.1)
    assert rule.decide(0.15).reason == (
        "Expected 1 - Dice 0.150 is at most the limit 0.200, which keeps accepted cases at a mean 1 - Dice of 0.1 "
        "(67% of 3 calibration cases were accepted)."
    )
    other = fit_decision_rule(np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.1, 0.8]), 0.1, kind="ranking")
    assert other.decide(0.5).reason.startswith("ranking score 0.5 is above the limit 0.2, which keeps")


@given(rows=scores, target=targets)
@REPEATABLE
def test_rules_survive_json(rows, target):
    rule = fit(rows, target, level="voxel", kind="ranking")
    assert DecisionRule.from_json(json.loads(json.dumps(rule.to_json(), allow_nan=False))) == rule


@pytest.mark.parametrize("content", [{}, {"threshold": 1.0}, {"threshold": None, "colour": "red"}])
def test_foreign_rules_are_refused(content):
    with pytest.raises(ConfigError, match="not a decision rule"):
        DecisionRule.from_json(content)


@pytest.mark.parametrize("target", [-0.1, 1.1, math.nan])
def test_targets_are_shares(target):
    with pytest.raises(ConfigError, match="target_risk"):
        fit_decision_rule(np.array([0.1]), np.array([0.1]), target)


@pytest.mark.parametrize(("values", "risks"), [([], []), ([math.nan], [0.1]), ([0.1], [math.inf])])
def test_scores_and_risks_must_be_finite(values, risks):
    with pytest.raises(InputError, match="finite scores and risks"):
        fit_decision_rule(np.array(values, float), np.array(risks, float), 0.1)
