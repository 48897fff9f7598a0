"""What the calibration promises: coverage for new pictures, monotone curves, and other people's isotonic regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from sfumato.errors import ConfigError, InputError
from sfumato.methods.sam_gaps.calibration import (
    LEAST_FOR_MEAN,
    IouCalibration,
    fit_curve,
    fit_iou_calibration,
    grouped_quantile,
    read_curve,
)


def drawn(pictures: int, seed: int, hypotheses: int = 3):
    """Masks of pictures of very different numbers of objects; those of one picture fail together."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, pictures)
    owner = np.repeat(np.arange(pictures), sizes)
    trouble = rng.normal(0, 0.8, pictures)[owner]
    logit = rng.normal(0.5, 1.5, (len(owner), hypotheses))
    told = 1 / (1 + np.exp(-logit))
    iou = 1 / (1 + np.exp(-(0.8 * logit + trouble[:, None] + rng.normal(0, 0.7, logit.shape))))
    return torch.from_numpy(told).float(), torch.from_numpy(iou).float(), [f"p{i}" for i in owner]


def per_picture(inside: torch.Tensor, groups: list[str]) -> float:
    """Share of masks inside, every picture weighing the same."""
    names = np.array(groups)
    return float(np.mean([inside.double().numpy()[names == name].mean() for name in set(groups)]))


@pytest.mark.parametrize("level", [0.8, 0.9])
def test_new_pictures_are_covered_however_few_there_were(level):
    covered, best_covered, widths = [], [], []
    for seed in range(40):
        calibration = fit_iou_calibration(*drawn(40, seed), level=level, seed=seed)
        told, iou, groups = drawn(150, 10_000 + seed)
        low, high = calibration.interval(told)
        inside = (low <= iou) & (iou <= high)
        best = inside.gather(1, told.argmax(dim=1, keepdim=True))
        covered.append(per_picture(inside, groups))
        best_covered.append(per_picture(best, groups))
        widths.append(float((high - low).mean()))
    error = np.std(covered) / len(covered) ** 0.5
    assert np.mean(covered) > level - 2 * error
    assert np.mean(best_covered) > level - 2 * error
    assert np.mean(covered) < level + 0.08  # not by saying anything is possible
    assert np.mean(widths) < 0.9


def test_the_chosen_hypothesis_is_covered_even_if_it_errs_most():
    """The best of three by what is told may err more than a mask that is told the same and was not chosen."""
    g = torch.Generator().manual_seed(0)

    def make(pictures: int):
        told = torch.rand(pictures, 3, generator=g)
        spread = torch.full_like(told, 0.02).scatter(1, told.argmax(dim=1, keepdim=True), 0.2)
        iou = (0.5 + spread * torch.randn(told.shape, generator=g)).clamp(0, 1)
        return told, iou, [str(i) for i in range(pictures)]

    calibration = fit_iou_calibration(*make(2000), level=0.8)
    told, iou, _ = make(2000)
    low, high = calibration.interval(told)
    inside = ((low <= iou) & (iou <= high)).float()
    assert float(inside.gather(1, told.argmax(dim=1, keepdim=True)).mean()) > 0.78


def test_one_mask_per_picture_is_ordinary_split_conformal():
    rng = np.random.default_rng(0)
    for count in (9, 20, 57):
        scores = rng.normal(size=count)
        for level in (0.5, 0.8, 0.9):
            place = int(np.ceil((count + 1) * level - 1e-9))
            expected = np.sort(scores)[place - 1] if place <= count else np.inf
            assert grouped_quantile(scores, [str(i) for i in range(count)], level) == expected


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-5, 5)), min_size=1, max_size=25), st.floats(0.05, 0.95)
)
def test_the_grouped_quantile_agrees_with_its_definition(rows, level):
    groups = [str(g) for g, _ in rows]
    names = set(groups)

    def share_at_or_below(t: float) -> float:
        mean = 0.0
        for name in names:
            own = [s for g, s in rows if str(g) == name]
            mean += sum(s <= t for s in own) / len(own)
        return mean / (len(names) + 1)

    reached = [s for _, s in sorted(rows, key=lambda row: row[1]) if share_at_or_below(s) >= level - 1e-9]
    expected = reached[0] if reached else np.inf
    assert grouped_quantile(np.array([float(s) for _, s in rows]), groups, level) == expected


def test_curves_are_another_library_s_isotonic_regression():
    rng = np.random.default_rng(1)
    told = rng.permutation(np.linspace(0, 1, 640))
    true = np.clip(told**2 + rng.normal(0, 0.3, 640), 0, 1)
    curve = fit_curve(told, true, np.mean, LEAST_FOR_MEAN)
    order = np.argsort(told)
    mean_told, mean_true = (v[order].reshape(64, 10).mean(axis=1) for v in (told, true))
    expected = IsotonicRegression().fit(mean_told, mean_true).predict(mean_told)
    levels = np.unique(curve[1].numpy())
    np.testing.assert_allclose(levels, np.unique(expected.round(12)), atol=1e-6)
    centres = [mean_told[np.isclose(expected, level)].mean() for level in np.unique(expected.round(12))]
    np.testing.assert_allclose(read_curve(curve, torch.tensor(centres)).numpy(), levels, atol=1e-6)
    at = torch.linspace(-1, 2, 99)
    interpolated = np.interp(at, *(v.double().numpy() for v in curve))
    np.testing.assert_allclose(read_curve(curve, at).numpy(), interpolated, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 4))
def test_everything_is_monotone_and_in_range(seed, pictures, decimals):
    told, iou, groups = drawn(pictures, seed)
    calibration = fit_iou_calibration(told.mul(10**decimals).round() / 10**decimals, iou, groups)
    at = torch.linspace(-0.2, 1.2, 301)
    expected, (low, high), above = calibration.expected(at), calibration.interval(at), calibration.above(at)
    for values in (expected, low, high, above):
        assert ((values >= 0) & (values <= 1)).all()
        assert (values.diff() >= -1e-6).all()
    assert (low <= expected).all()
    assert (expected <= high).all()


def test_expected_iou_and_chance_are_true_on_average():
    calibration = fit_iou_calibration(*drawn(3000, 0), threshold=0.6)
    told, iou, _ = drawn(3000, 1)
    expected, above = calibration.expected(told), calibration.above(told)
    for low in (0.2, 0.4, 0.6, 0.8):
        some = (told >= low) & (told < low + 0.2)
        assert float(expected[some].mean()) == pytest.approx(float(iou[some].mean()), abs=0.02)
        assert float(above[some].mean()) == pytest.approx(float((iou[some] > 0.6).float().mean()), abs=0.03)


def test_halves_are_whole_pictures():
    """The interval is widened by pictures that did not draw its curves: with two, one for each."""
    told = torch.tensor([[0.2], [0.4], [0.6], [0.8]])
    iou = torch.tensor([[0.5], [0.5], [0.9], [0.9]])
    means = {
        float(fit_iou_calibration(told, iou, ["a", "a", "b", "b"], seed=s).expected(torch.tensor(0.5)))
        for s in range(12)
    }
    assert sorted(round(m, 6) for m in means) == [0.5, 0.9]


def test_few_pictures_promise_nothing():
    calibration = fit_iou_calibration(*drawn(12, 0))
    low, high = calibration.interval(torch.tensor([0.3, 0.9]))
    assert low.tolist() == [0, 0]
    assert high.tolist() == [1, 1]


def test_before_it_is_fitted_it_knows_nothing():
    fresh = IouCalibration(threshold=0.5)
    told = torch.tensor([-0.1, 0.2, 0.9, 1.3])
    assert torch.allclose(fresh.expected(told), told.clamp(0, 1))
    low, high = fresh.interval(told)
    assert low.tolist() == [0] * 4
    assert high.tolist() == [1] * 4
    assert fresh.above(told).tolist() == [0, 0, 1, 1]


def test_its_state_is_all_there_is():
    fitted = fit_iou_calibration(*drawn(60, 0), level=0.8, threshold=0.6)
    again = IouCalibration()
    again.load_state_dict(fitted.state_dict())
    told = torch.rand(50)
    assert torch.equal(again.expected(told), fitted.expected(told))
    assert torch.equal(torch.stack(again.interval(told)), torch.stack(fitted.interval(told)))
    assert torch.equal(again.above(told), fitted.above(told))
    assert float(again.threshold) == pytest.approx(0.6)


def test_a_function_of_groups_and_seed_alone():
    told, iou, groups = drawn(50, 3)
    order = torch.randperm(len(groups), generator=torch.Generator().manual_seed(0))
    shuffled = fit_iou_calibration(told[order], iou[order], [groups[i] for i in order.tolist()])
    plain = fit_iou_calibration(told, iou, groups)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(shuffled.state_dict()[name], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, y, g: (t, y[1:], g), "equal shapes"),
        (lambda t, y, g: (t, y, g[1:]), "one group per row"),
        (lambda t, y, g: (t, y, ["a"] * len(g)), "at least two"),
        (lambda t, y, g: (t / 0, y, g), "not finite"),
        (lambda t, y, g: (t, y + 1, g), "outside of"),
    ],
)
def test_what_cannot_be_used_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        fit_iou_calibration(*change(*drawn(5, 0)))
    with pytest.raises(ConfigError, match="level=1"):
        fit_iou_calibration(*drawn(5, 0), level=1.0)
