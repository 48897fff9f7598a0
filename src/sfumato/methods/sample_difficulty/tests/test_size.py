"""The size trend: what is size alone leaves nothing, and what does not belong does not move it."""

import json

import numpy as np
import pytest
from scipy.stats import theilslopes

from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.methods.sample_difficulty.size import SizeTrend


def reference_of(seed=0, count=80, noise=0.05, slope=0.45):
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(3, 10, count))
    slices = rng.integers(3, 40, count).astype(float)
    scale = np.exp(-5 + slope * np.log(size) - 0.2 * np.log(slices) + noise * rng.normal(size=count))
    return scale, {"size": size, "slices": slices}


@pytest.mark.parametrize("seed", range(5))
def test_a_pure_effect_of_size_leaves_nothing(seed):
    scale, predictors = reference_of(seed, noise=0)
    trend = SizeTrend.fit(scale, predictors)
    np.testing.assert_allclose(trend.residual(scale, predictors), 0, atol=1e-9)
    assert trend.slopes == pytest.approx({"size": 0.45, "slices": -0.2})
    assert trend.intercept == pytest.approx(-5)
    assert trend.outliers == 0


@pytest.mark.parametrize("factor", [1e-6, 0.01, 100.0, 1e6])
@pytest.mark.parametrize("place", ["smallest", "largest"])
def test_one_wild_case_does_not_move_the_line(factor, place):
    scale, predictors = reference_of(1)
    size = predictors["size"]
    before = SizeTrend.fit(scale, predictors)
    wild = scale.copy()
    wild[size.argmin() if place == "smallest" else size.argmax()] *= factor
    after = SizeTrend.fit(wild, predictors)
    assert after.outliers >= 1
    # Far less than the standard error of a slope, 0.05 / (2.0 sqrt(80)).
    assert after.slopes["size"] == pytest.approx(before.slopes["size"], abs=1e-3)


def test_a_third_of_wild_cases_with_leverage_does_not_move_it_far():
    scale, predictors = reference_of(2, count=90)
    scale[:30], predictors["size"][:30] = 5.0, 1e9
    trend = SizeTrend.fit(scale, predictors)
    assert trend.slopes["size"] == pytest.approx(0.45, abs=0.02)
    assert trend.outliers >= 30


@pytest.mark.parametrize("seed", range(5))
def test_theil_and_sen_agree(seed):
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(2, 9, 120))
    scale = np.exp(-4 + 0.3 * np.log(size) + 0.05 * rng.normal(size=120))
    scale[:15] *= 0.05
    slope = theilslopes(np.log(scale), np.log(size)).slope
    assert SizeTrend.fit(scale, {"size": size}).slopes["size"] == pytest.approx(slope, abs=0.01)


def test_among_cases_that_all_belong_it_is_least_squares():
    rng = np.random.default_rng(3)
    size = np.exp(rng.uniform(2, 9, 100))
    scale = np.exp(-4 + 0.3 * np.log(size) + rng.uniform(-0.05, 0.05, 100))
    trend = SizeTrend.fit(scale, {"size": size})
    slope, intercept = np.polyfit(np.log(size), np.log(scale), 1)
    assert trend.outliers == 0
    assert (trend.slopes["size"], trend.intercept) == pytest.approx((slope, intercept))


def test_the_unit_of_size_and_of_scale_does_not_matter():
    scale, predictors = reference_of(4)
    other = {**predictors, "size": 0.001 * predictors["size"]}
    one, two = SizeTrend.fit(scale, predictors), SizeTrend.fit(7 * scale, other)
    np.testing.assert_allclose(one.residual(scale, predictors), two.residual(7 * scale, other), atol=1e-9)


def test_harder_than_its_size_means_a_higher_residual_and_rank():
    scale, predictors = reference_of(5)
    trend = SizeTrend.fit(scale, predictors)
    few = {name: values[:2] for name, values in predictors.items()}
    low, high = trend.residual(0.5 * scale[:2], few), trend.residual(scale[:2], few)
    np.testing.assert_allclose(low - high, np.log(2))
    assert (trend.rank(0.1 * scale[:2], few) == 1).all()
    assert (trend.rank(10 * scale[:2], few) == 0).all()


def test_rank_is_the_share_of_pairs():
    scale, predictors = reference_of(6)
    trend = SizeTrend.fit(scale, predictors)
    found = trend.residual(scale, predictors)
    pairs = (found[None] < found[:, None]).mean(1) + 0.5 * (found[None] == found[:, None]).mean(1)
    np.testing.assert_allclose(trend.rank(scale, predictors), pairs, atol=1e-12)
    assert trend.rank(scale, predictors).mean() == pytest.approx(0.5)


def test_a_case_does_not_see_the_others():
    scale, predictors = reference_of(7)
    trend = SizeTrend.fit(scale, predictors)
    alone = [
        trend.rank(scale[i : i + 1], {n: v[i : i + 1] for n, v in predictors.items()})[0] for i in range(9)
    ]
    np.testing.assert_array_equal(alone, trend.rank(scale, predictors)[:9])


def test_undefined_cases_stay_undefined_and_out_of_the_fit():
    scale, predictors = reference_of(8)
    clean = SizeTrend.fit(scale[3:], {n: v[3:] for n, v in predictors.items()})
    scale[:2], predictors["size"][2] = (np.nan, 0.0), 0.0
    trend = SizeTrend.fit(scale, predictors)
    assert trend == clean
    assert np.isnan(trend.residual(scale, predictors)[:3]).all()
    assert np.isnan(trend.rank(scale, predictors)[:3]).all()
    assert np.isfinite(trend.rank(scale, predictors)[3:]).all()


def test_many_cases_are_kept_in_short():
    scale, predictors = reference_of(9, count=12_000)
    trend = SizeTrend.fit(scale, predictors)
    assert len(trend.residuals) == 1001
    ranks = trend.rank(scale, predictors)
    found = trend.residual(scale, predictors)
    np.testing.assert_allclose(ranks[found.argsort()], (np.arange(12_000) + 0.5) / 12_000, atol=2e-3)


def test_it_survives_json():
    scale, predictors = reference_of(10)
    trend = SizeTrend.fit(scale, predictors)
    again = SizeTrend.from_json(json.loads(json.dumps(trend.to_json())))
    assert again == trend
    with pytest.raises(StorageError, match="size trend"):
        SizeTrend.from_json({"intercept": 1.0})


def test_what_does_not_fit_is_said():
    scale, predictors = reference_of(11)
    trend = SizeTrend.fit(scale, predictors)
    with pytest.raises(ConfigError, match="no predictor"):
        SizeTrend.fit(scale, {})
    with pytest.raises(ConfigError, match="expected those of the fit"):
        trend.residual(scale, {"size": predictors["size"]})
    with pytest.raises(InputError, match="one number per case"):
        trend.residual(scale[1:], predictors)
    with pytest.raises(InputError, match="expected at least 15"):
        SizeTrend.fit(scale[:14], {n: v[:14] for n, v in predictors.items()})
    with pytest.raises(InputError, match="do not vary"):
        SizeTrend.fit(scale, {"size": predictors["size"], "volume": 2 * predictors["size"]})
