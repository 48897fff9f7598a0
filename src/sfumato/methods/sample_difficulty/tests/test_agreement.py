"""Label agreement: against cleanlab, against loops, and what a calibrated model must find."""

import numpy as np
import pytest
import torch
from cleanlab.count import compute_confident_joint, get_confident_thresholds
from cleanlab.segmentation.rank import get_label_quality_scores

from sfumato.errors import ConfigError, InputError
from sfumato.measures import expected_dice_loss
from sfumato.methods.sample_difficulty.agreement import confidence_thresholds, label_agreement


def case_of(seed=0, classes=3, grid=(9, 11), sharpness=2.0):
    """Random probabilities and a label drawn from them."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.normal(size=(classes, *grid))
    p = np.exp(logits) / np.exp(logits).sum(0)
    drawn = (p.cumsum(0) < rng.random(grid)).sum(0).clip(0, classes - 1)
    return p, drawn


def by_loops(p, y):
    """Soft Dice per foreground class, observed and expected, voxel by voxel."""
    dice, expected = [], []
    for c in range(1, len(p)):
        both = mass = count = square = 0.0
        absent, drawn, predicted = 1.0, False, False
        for place in np.ndindex(y.shape):
            if y[place] < 0:
                continue
            value = float(p[(c, *place)])
            both += value * (y[place] == c)
            mass += value
            square += value * value
            count += y[place] == c
            absent *= np.exp(-value)
            drawn = drawn or y[place] == c
            predicted = predicted or int(p[(slice(None), *place)].argmax()) == c
        dice.append(2 * both / (mass + count) if drawn or predicted else np.nan)
        loss = (1 - 2 * square / (2 * mass)) * (1 if predicted else 1 - absent)
        expected.append(1 - loss if drawn or predicted else np.nan)
    return np.array(dice), np.array(expected)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_softmin_is_one_minus_cleanlabs(seed, temperature):
    p, y = case_of(seed)
    theirs, _ = get_label_quality_scores(y[None], p[None], verbose=False, temperature=temperature)
    ours = label_agreement(p, y, temperature=temperature).softmin
    assert ours == pytest.approx(1 - theirs[0], abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_dice_and_its_expectation_are_those_of_loops(seed):
    p, y = case_of(seed, classes=4, grid=(4, 5, 6))
    y[0] = -1
    y[y == 3] = 0
    dice, expected = by_loops(p, y)
    found = label_agreement(p, y)
    np.testing.assert_allclose(found.dice, dice, rtol=1e-12)
    assert found.disagreement == pytest.approx(1 - np.nanmean(dice), rel=1e-12)
    assert found.expected == pytest.approx(1 - np.nanmean(expected), rel=1e-12)
    assert found.worst == pytest.approx(1 - np.nanmin(dice), rel=1e-12)
    assert found.surprise == found.disagreement - found.expected


def test_labels_drawn_from_the_model_do_not_surprise_it():
    surprises = [label_agreement(*case_of(seed, grid=(60, 60))).surprise for seed in range(20)]
    spread = np.std(surprises) / np.sqrt(len(surprises))
    assert abs(np.mean(surprises)) < 4 * spread < 0.01


def test_a_class_that_a_sure_model_rejects_surprises_it():
    p = np.stack([np.full((8, 8), 1 - 1e-4), np.full((8, 8), 1e-4)])
    found = label_agreement(p, np.ones((8, 8), int))
    assert found.disagreement > 0.99
    assert found.expected == pytest.approx(64 * 1e-4, rel=0.01)
    # Where it is not sure at all, it is not surprised.
    half = label_agreement(np.stack([np.full((8, 8), 0.51), np.full((8, 8), 0.49)]), np.ones((8, 8), int))
    assert half.surprise < 0


def test_the_loops_meet_a_class_that_is_drawn_and_not_predicted():
    p = np.full((3, 4, 4), 0.1)
    p[0], p[2, :2] = 0.8, 0.05
    p[0, :2] = 0.85
    y = np.zeros((4, 4), int)
    y[1, 1:3], y[3, 3] = 1, 2
    dice, expected = by_loops(p, y)
    found = label_agreement(p, y)
    np.testing.assert_allclose(found.dice, dice)
    assert found.expected == pytest.approx(1 - expected.mean())
    assert found.expected < (1 - (p[1:] ** 2).sum((1, 2)) / p[1:].sum((1, 2))).mean()


def test_a_sure_model_is_measured_by_plain_dice():
    rng = np.random.default_rng(1)
    predicted, y = rng.integers(0, 2, (2, 10, 12))
    p = np.stack([1 - predicted, predicted]).astype(np.float32)
    found = label_agreement(p, y)
    hits, either = (predicted & y).sum(), predicted.sum() + y.sum()
    assert found.disagreement == pytest.approx(1 - 2 * hits / either)
    assert found.expected == 0
    assert found.size_log_ratio == pytest.approx(np.log((y.sum() + 1) / (predicted.sum() + 1)))
    # A sure model's error map against the label is where they differ: the other measure of the same quantity.
    wrong, labels = torch.tensor((predicted != y)[None] * 1.0), torch.tensor(predicted)[None]
    assert found.disagreement == pytest.approx(expected_dice_loss(wrong, labels).item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_more_wrong_voxels_mean_more_doubt(seed):
    p, _ = case_of(seed, classes=3, grid=(20, 20), sharpness=4.0)
    best, order = p.argmax(0), np.random.default_rng(seed).permutation(400)
    found = []
    for wrong in (0, 40, 120, 240):
        y = best.copy()
        y.flat[order[:wrong]] = (y.flat[order[:wrong]] + 1) % 3
        found.append(label_agreement(p, y, thresholds=np.full(3, 0.6)))
    # The softmin looks at the worst voxels and is full after a few.
    assert found[0].softmin < found[1].softmin
    for name in ("disagreement", "worst", "surprise", "confident"):
        values = [getattr(f, name) for f in found]
        assert values == sorted(values), name
        assert values[0] < values[-1], name
    assert len({f.expected for f in found}) == 1


def test_the_order_of_voxels_and_of_classes_does_not_matter():
    p, y = case_of(3, classes=4)
    mixed = np.random.default_rng(0).permutation(y.size)
    other = label_agreement(p.reshape(4, -1)[:, mixed], y.ravel()[mixed])
    swapped = label_agreement(p[[0, 2, 1, 3]], np.array([0, 2, 1, 3])[y])
    found = label_agreement(p, y)
    np.testing.assert_allclose(swapped.dice, found.dice[[1, 0, 2]])
    for name in ("disagreement", "worst", "expected", "softmin", "confident", "size_log_ratio"):
        assert getattr(other, name) == pytest.approx(getattr(found, name), rel=1e-9), name
        assert getattr(swapped, name) == pytest.approx(getattr(found, name), rel=1e-9), name


def test_unknown_voxels_count_as_if_they_were_not_there():
    p, y = case_of(4)
    y[:, :5] = -1
    whole, cut = label_agreement(p, y), label_agreement(p[:, :, 5:], y[:, 5:])
    np.testing.assert_array_equal(whole.dice, cut.dice)
    assert whole.softmin == cut.softmin
    assert whole.confident == cut.confident


def test_empty_labels_and_predictions():
    background = np.stack([np.full((6, 6), 0.9), np.full((6, 6), 0.1)])
    nothing = label_agreement(background, np.zeros((6, 6), int))
    assert np.isnan(nothing.dice).all()
    assert (nothing.disagreement, nothing.worst, nothing.expected, nothing.confident) == (0, 0, 0, 0)
    assert nothing.softmin == pytest.approx(0.1)
    drawn = np.zeros((6, 6), int)
    drawn[2:4, 2:4] = 1
    unseen = label_agreement(background, drawn)
    assert unseen.disagreement == pytest.approx(1 - 2 * 0.4 / (3.6 + 4))
    assert unseen.size_log_ratio == pytest.approx(np.log(5 / 4.6))
    missed = label_agreement(background[::-1], np.zeros((6, 6), int))
    assert missed.disagreement == 1
    assert missed.confident == 1
    assert missed.size_log_ratio < 0


def test_thresholds_are_cleanlabs_where_every_class_is_labelled():
    p, y = case_of(6)
    theirs = get_confident_thresholds(y.ravel(), p.reshape(3, -1).T)
    np.testing.assert_allclose(confidence_thresholds(p, y), theirs, rtol=1e-9)


def test_confident_share_is_the_confident_joints():
    p, y = case_of(7, grid=(30, 30))
    joint = compute_confident_joint(y.ravel(), p.reshape(3, -1).T, calibrate=False)
    foreground = (y > 0) | (p.argmax(0) > 0)
    # Voxels that are background in label and prediction lie outside; cleanlab counts them too.
    limits = confidence_thresholds(p, y)
    certain = np.where(p >= limits[:, None, None], p, -1)
    outside = ~foreground & (certain.max(0) > 0) & (certain.argmax(0) != y)
    wrong = joint.sum() - np.trace(joint) - outside.sum()
    assert label_agreement(p, y).confident == pytest.approx(
        wrong / foreground.sum(), abs=2 / foreground.sum()
    )


def test_what_does_not_fit_is_said():
    p, y = case_of()
    with pytest.raises(InputError, match=r"expected \(classes"):
        label_agreement(p, y[:-1])
    with pytest.raises(InputError, match="no known voxel"):
        label_agreement(p, np.full_like(y, -1))
    with pytest.raises(InputError, match="labels up to 3"):
        label_agreement(p, y + 1)
    with pytest.raises(InputError, match="not logits"):
        label_agreement(np.log(p), y)
    with pytest.raises(InputError, match="not logits"):
        label_agreement(np.full_like(p, np.nan), y)
    with pytest.raises(InputError, match="thresholds of shape"):
        label_agreement(p, y, thresholds=np.ones(2))
    with pytest.raises(ConfigError, match="temperature=0"):
        label_agreement(p, y, temperature=0)
