"""AUV against a stored range."""

from __future__ import annotations

import json
import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import minmax_scale

from sfumato.errors import ConfigError, StorageError
from sfumato.methods.sample_difficulty.range import ReferenceRange
from sfumato.methods.sample_difficulty.reference import reference_difficulty

SCALES = st.lists(st.floats(1e-5, 1.0), min_size=2, max_size=12)
ODD = [math.nan, 0.0, 1e-7, math.inf]


def difficulty(scales, **options) -> list[float]:
    return ReferenceRange.from_values(scales, **options)(scales).tolist()


def test_worked_examples():
    assert difficulty([0.427, 0.558, 0.134]) == pytest.approx([0.187572, 0, 1], abs=5e-7)  # E6
    first, second = np.array([0.62, 0.55, 0.70, 0.30]), np.array([0.40, 0.10, 0.52, 0.05])  # E8
    assert difficulty(first + second) == pytest.approx([0.143391, 0.504242, 0, 1], abs=5e-7)
    assert difficulty(first) == pytest.approx([0.143233, 0.284625, 0, 1], abs=5e-7)
    assert difficulty(second) == pytest.approx([0.112035, 0.704012, 0, 1], abs=5e-7)
    shards = [ReferenceRange.from_values(s) for s in ([0.5, 0.25], [0.125, 0.0625])]  # E10
    together = shards[0].merge(shards[1])
    assert together([0.5, 0.25, 0.125, 0.0625]) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert together.count == 4


def test_one_outlier_that_is_not_flagged_squashes_the_others():
    scales = [0.30, 0.28, 0.25, 0.20, 0.15]  # E11
    assert difficulty(scales) == pytest.approx([0, 0.0995, 0.2630, 0.5850, 1], abs=5e-5)
    squashed = difficulty([*scales, 1e-8], floor=0.0)
    assert squashed[:5] == pytest.approx([0, 0.0040, 0.0106, 0.0236, 0.0403], abs=5e-5)
    assert difficulty([*scales, 1e-8]) == [*difficulty(scales), 1.0]
    filled = [0.0748, 0.0183, 0.1545, 7e-5]
    assert difficulty(filled) == pytest.approx([0.0942, 0.2771, 0, 1], abs=5e-5)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(1e-9, 1), st.sampled_from([math.nan, 0.0])), min_size=1, max_size=12))
def test_it_is_its_slow_twin(scales):
    assert difficulty(scales) == pytest.approx(reference_difficulty(scales), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(SCALES, st.floats(0.1, 1000), st.randoms())
def test_properties_of_the_order(scales, factor, random):
    found = np.array(difficulty(scales))
    reference = ReferenceRange.from_values(scales)
    assert ((found >= 0) & (found <= 1)).all()
    assert reference.spread or not found.any()  # P18
    if reference.spread:
        assert found[np.argmax(scales)] == 0  # P16
        assert found[np.argmin(scales)] == pytest.approx(1)
        assert (np.diff(found[np.argsort(scales)]) <= 0).all()
        np.testing.assert_allclose(found, minmax_scale(-np.log(scales)), atol=1e-6)
        scaled = difficulty([s * factor for s in scales], floor=0.0)
        assert scaled == pytest.approx(found.tolist(), abs=1e-6)  # P15
    order = random.sample(range(len(scales)), len(scales))
    assert difficulty([scales[i] for i in order]) == [found[i] for i in order]  # P17


def test_a_sum_and_a_mean_over_the_same_classes_order_alike():
    values = np.random.default_rng(0).uniform(0.01, 1, (20, 4))
    assert difficulty(values.sum(1)) == pytest.approx(difficulty(values.mean(1)), abs=1e-12)  # P15


@settings(max_examples=60, deadline=None)
@given(SCALES, st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_any_split_merges_to_the_whole(scales, shards):
    parts = [
        ReferenceRange.from_values([s for s, n in zip(scales, shards, strict=False) if n == shard])
        for shard in range(4)
    ]
    whole = ReferenceRange.from_values(scales)
    assert reduce(ReferenceRange.merge, parts) == whole  # P17
    assert parts[3].merge(parts[2].merge(parts[1].merge(parts[0]))) == whole
    assert whole.merge(ReferenceRange()) == whole == ReferenceRange().merge(whole)


@settings(max_examples=40, deadline=None)
@given(SCALES, st.lists(st.sampled_from(ODD), max_size=4))
def test_flagged_cases_move_nothing_and_come_last(scales, odd):
    reference = ReferenceRange.from_values([*odd, *scales])
    assert (reference.low, reference.high) == (min(np.log(scales)), max(np.log(scales)))  # P23
    assert (reference.count, reference.flagged) == (len(scales), len(odd))
    assert reference([*scales, *odd]).tolist() == [*difficulty(scales), *[1.0] * len(odd)]


@pytest.mark.parametrize("scales", [[0.3], [0.3, 0.3, 0.3], []])
def test_without_spread_nothing_is_hard_but_what_is_flagged(scales):
    reference = ReferenceRange.from_values(scales)
    assert not reference.spread
    assert reference([0.3, 0.001, 0.9, 0.0]).tolist() == [0, 0, 0, 1]


def test_new_cases_beyond_the_range_stay_at_its_ends():
    reference = ReferenceRange.from_values([0.1, 0.4])
    assert reference([0.05, 0.9, 0.2]).tolist() == [1, 0, pytest.approx(0.5)]
    assert float(reference(0.2)) == pytest.approx(0.5)


def test_percentiles_are_not_moved_by_one_case():
    rng = np.random.default_rng(1)
    scales = rng.uniform(0.1, 0.4, 500)
    plain = ReferenceRange.from_values(scales, "percentile", (5, 95))
    assert (plain.low, plain.high) == tuple(np.quantile(np.log(scales), [0.05, 0.95]))
    moved = ReferenceRange.from_values([*scales, 2e-6], "percentile", (5, 95))
    assert np.abs(moved(scales) - plain(scales)).max() < 0.02
    stretched = ReferenceRange.from_values([*scales, 2e-6])
    assert np.abs(stretched(scales) - ReferenceRange.from_values(scales)(scales)).max() > 0.5
    assert plain(scales).min() == 0
    assert plain(scales).max() == 1


@pytest.mark.parametrize("scales", [[], [0.2, 0.4, math.nan]])
@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_it_survives_json(scales, method):
    reference = ReferenceRange.from_values(scales, method, (2, 98))
    plain = json.loads(json.dumps(reference.to_json(), allow_nan=False))
    assert ReferenceRange.from_json(plain) == reference


def test_mistakes_are_our_errors():
    with pytest.raises(ConfigError, match="method='median'"):
        ReferenceRange.from_values([0.1], "median")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="two rising numbers"):
        ReferenceRange(percentiles=(99, 1))
    percentile = ReferenceRange.from_values([0.1, 0.2], "percentile")
    with pytest.raises(ConfigError, match="were to be merged"):
        percentile.merge(ReferenceRange())
    for content in ({}, {"percentiles": [1, 99], "lowest": 0.1}, {"percentiles": 3}):
        with pytest.raises(StorageError, match="Not a reference range"):
            ReferenceRange.from_json(content)
