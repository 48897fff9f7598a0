"""What a cascade costs and what it buys."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, InputError
from sfumato.methods.sam_gaps.cascade import (
    Costs,
    cascade_curve,
    escalate,
    threshold_for_quality,
    threshold_for_share,
)

PUBLISHED = Costs(0.139, 0.437)
"""Seconds of the smallest and the largest network (table 7 of the paper)."""


def drawn(count: int, seed: int):
    rng = np.random.default_rng(seed)
    cheap = rng.uniform(0, 1, count)
    large = np.clip(cheap + rng.normal(0.05, 0.1, count), 0, 1)
    return (large - cheap + rng.normal(0, 0.1, count)).round(2), cheap, large


def test_published_costs():
    assert PUBLISHED.of(0) == 0.139
    assert PUBLISHED.of(PUBLISHED.break_even) == pytest.approx(PUBLISHED.large)
    assert PUBLISHED.break_even == pytest.approx(0.6819, abs=5e-5)
    assert PUBLISHED.of(0.25) / PUBLISHED.large == pytest.approx(0.57, abs=0.005)
    assert Costs(2, 1).break_even == 0
    for wrong in ((-1, 1), (1, 0), (float("nan"), 1), (1, float("inf"))):
        with pytest.raises(ConfigError, match="finite"):
            Costs(*wrong)


def test_the_ends_are_the_two_networks():
    scores, cheap, large = drawn(50, 0)
    curve = cascade_curve(scores, cheap, large, PUBLISHED)
    assert curve.iou[0] == pytest.approx(cheap.mean())
    assert curve.iou[-1] == pytest.approx(large.mean())
    np.testing.assert_allclose(curve.cost, [PUBLISHED.of(q) for q in curve.share])
    gap = torch.from_numpy(scores)
    assert not escalate(gap, float("inf")).any()
    assert escalate(gap, float("-inf")).all()


def test_the_true_gain_is_the_best_score_and_a_constant_one_is_chance():
    scores, cheap, large = drawn(80, 1)
    best, found, random = (
        cascade_curve(s, cheap, large, PUBLISHED) for s in (large - cheap, scores, 0 * scores)
    )
    assert (best.iou >= found.iou - 1e-12).all()
    expected = cheap.mean() + random.share * (large.mean() - cheap.mean())
    np.testing.assert_allclose(random.iou, expected, atol=1e-12)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=20), st.floats(0, 1))
def test_a_budget_is_kept_and_used(values, share):
    scores = np.array(values, float)
    threshold = threshold_for_share(scores, share)
    assert (scores > threshold).mean() <= share + 1e-9
    lower = scores[scores <= threshold]
    if len(lower):  # any lower threshold would send on more than the budget
        assert (scores >= lower.max()).mean() > share - 1e-9


def test_budgets_are_exact_where_scores_differ():
    scores = np.random.default_rng(0).permutation(10) / 10
    for tenth in range(11):
        assert (scores > threshold_for_share(scores, tenth / 10)).sum() == tenth
    with pytest.raises(ConfigError, match="from 0 to 1"):
        threshold_for_share(scores, 1.5)
    with pytest.raises(InputError, match="all finite"):
        threshold_for_share(np.array([np.nan]), 0.5)


def test_a_wanted_quality_is_reached_with_as_few_as_possible():
    scores, cheap, large = drawn(60, 2)

    def reached(threshold: float) -> float:
        return float(np.where(scores > threshold, large, cheap).mean())

    steps = [float("inf"), *sorted(set(scores), reverse=True), float("-inf")]
    for wanted in np.linspace(cheap.mean() - 0.01, large.mean() + 0.02, 12):
        fine = [t for t in steps if reached(t) >= wanted - 1e-12]
        assert threshold_for_quality(scores, cheap, large, wanted) == (fine[0] if fine else float("-inf"))
    holes = np.append(scores, np.nan), np.append(cheap, 0.1), np.append(large, 0.9)
    assert threshold_for_quality(*holes, 0.52) == threshold_for_quality(scores, cheap, large, 0.52)
