"""Objects of a volume are followed from slice to slice, and lost where they end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.datasets.prompt_file import ObjectPrompt
from sfumato.errors import ConfigError, InputError
from sfumato.pipeline.follow import FollowOptions, follow_prompt
from sfumato.pipeline.prompted_plane import answer_plane, joined, uncalibrated
from sfumato.pipeline.prompted_volume import follow_objects, volume_estimate
from sfumato.segmenters.promptable.phantom import PhantomPromptable

from .conftest import ball

MIDDLE = ObjectPrompt("ball", ((18.0, 20.0, 1),), (9, 11, 27, 29), 6)


@pytest.fixture(scope="module")
def network():
    return PhantomPromptable()


def planes(image):
    scaled = np.clip(image / 200, 0, 1).astype(np.float32)
    return lambda index: torch.from_numpy(scaled[index])[None]


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


def test_a_ball_is_followed_to_both_ends_and_no_further(network):
    image, truth = ball()
    (found,) = follow_objects(
        network, planes(image), len(image), [MIDDLE], options=FollowOptions(largest_jump=6)
    )
    present = [i for i, plane in enumerate(truth) if plane.sum() > 20]
    assert set(present) <= set(found.slices)
    for i in present:
        assert iou(found.slices[i].mask, truth[i]) > 0.7
    empty = [i for i, plane in enumerate(truth) if not plane.any()]
    assert not set(empty) & set(found.slices)
    assert set(found.ends) == {"first", "last"}
    assert "around the object" in found.ends["last"]


def test_the_slice_pointed_at_is_the_answer_itself(network):
    image, _ = ball()
    (found,) = follow_objects(network, planes(image), len(image), [MIDDLE], advise=False)
    embedding = network.encode(planes(image)(6))
    (alone,) = answer_plane(network, embedding, [MIDDLE], advise=False)
    assert (found.slices[6].mask == alone.kept.mask).all()
    assert found.answers[6].click is None


def test_two_objects_at_once_are_what_each_is_alone(network):
    image, _ = ball()
    both = np.concatenate([image, image], axis=2)
    left = MIDDLE
    right = ObjectPrompt("right", ((18.0, 64.0, 1),), (9, 55, 27, 73), 5)
    together = follow_objects(network, planes(both), len(both), [left, right], advise=False)
    assert [found.name for found in together] == ["ball", "right"]
    for prompt, found in zip([left, right], together, strict=True):
        (alone,) = follow_objects(network, planes(both), len(both), [prompt], advise=False)
        assert set(alone.slices) == set(found.slices)
        for i in alone.slices:
            assert (alone.slices[i].mask == found.slices[i].mask).all()


def test_between_two_slices_pointed_at_the_better_mask_is_kept(network):
    image, _ = ball()
    far = replace(MIDDLE, plane=8)
    (found,) = follow_objects(network, planes(image), len(image), [MIDDLE, far], advise=False)
    alone = [follow_objects(network, planes(image), len(image), [p], advise=False)[0] for p in (MIDDLE, far)]
    best = max(one.slices[7].expected_iou for one in alone)
    assert found.slices[7].expected_iou == pytest.approx(best)
    assert set(found.answers) == {6, 8}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (FollowOptions(least_iou=1.0), "the expected IoU is"),
        (FollowOptions(largest_jump=1.0001), "the area jumps"),
        (FollowOptions(least_overlap=1.0, largest_jump=50), "the mask overlaps"),
    ],
)
def test_why_an_object_was_lost_is_said(network, options, said):
    image, _ = ball()

    def doubtful(decoded, kinds):
        found = uncalibrated(decoded, kinds)
        return replace(found, expected_iou=found.expected_iou * 0.99)

    (found,) = follow_objects(network, planes(image), len(image), [MIDDLE], doubtful, options, advise=False)
    assert set(found.slices) == {6}
    assert all(said in reason for reason in found.ends.values())


def test_a_higher_limit_never_follows_further(network):
    image, _ = ball()
    reached = []
    for least in (0.0, 0.85, 0.95, 1.0):
        options = FollowOptions(least_iou=least, largest_jump=50, least_overlap=0)
        (found,) = follow_objects(network, planes(image), len(image), [MIDDLE], options=options, advise=False)
        reached.append(set(found.slices))
    assert all(later <= earlier for earlier, later in itertools.pairwise(reached))


def test_the_next_prompt_is_around_the_last_mask():
    draw = np.random.default_rng(0)
    for _ in range(20):
        mask = np.zeros((20, 30), bool)
        row, column = draw.integers(0, 15), draw.integers(0, 25)
        mask[row : row + draw.integers(1, 6), column : column + draw.integers(1, 6)] = True
        prompt = follow_prompt(mask, 0.05)
        assert prompt.box is not None
        first, last = np.array(prompt.box[:2]), np.array(prompt.box[2:])
        assert (first <= np.argwhere(mask).min(axis=0)).all()
        assert (last >= np.argwhere(mask).max(axis=0)).all()
        assert (first >= 0).all()
        assert (last <= (19, 29)).all()
        assert mask[int(prompt.points[0][0]), int(prompt.points[0][1])]


def test_the_volume_estimate_is_the_truth_where_slices_are():
    draw = np.random.default_rng(1)
    # Masks and truths of equal area in every slice, which is what the estimate assumes.
    shifts = draw.integers(0, 6, 8)
    masks = np.zeros((8, 12, 30), bool)
    truths = np.zeros_like(masks)
    for i, shift in enumerate(shifts):
        width = draw.integers(8, 20)
        masks[i, :, :width] = truths[i, :, shift : shift + width] = True
    areas = masks.sum(axis=(1, 2))
    found = volume_estimate(areas.tolist(), [iou(m, t) for m, t in zip(masks, truths, strict=True)])
    assert found.iou == pytest.approx(iou(masks, truths))
    assert found.dice == pytest.approx(2 * (masks & truths).sum() / (masks.sum() + truths.sum()))
    assert np.isnan(volume_estimate([], []).iou)


def test_options_and_prompts_without_sense_are_refused(network):
    image, _ = ball()
    with pytest.raises(ConfigError, match="least_iou=2"):
        FollowOptions(least_iou=2)
    with pytest.raises(ConfigError, match="largest_jump=1"):
        FollowOptions(largest_jump=1)
    with pytest.raises(InputError, match="each with the slice"):
        follow_objects(network, planes(image), 9, [replace(MIDDLE, plane=None)])


def test_an_answer_says_what_the_network_answered(network):
    image, truth = ball()
    embedding = network.encode(planes(image)(6))
    (found,) = answer_plane(network, embedding, [MIDDLE])
    assert found.kind == "box_and_point"
    assert found.masks.shape == (3, *truth.shape[1:])
    assert (found.masks[found.chosen] == found.kept.mask).all()
    assert found.expected_iou[found.chosen] == max(found.expected_iou)
    assert ((found.kept.probability >= 128) == found.kept.mask).mean() > 0.999
    assert np.isnan(found.model_gap)
    assert found.click is not None
    assert 0 <= found.click.row < truth.shape[1]


def test_of_masks_that_overlap_the_likelier_has_the_pixel(network):
    image, truth = ball()
    embedding = network.encode(planes(image)(6))
    (found,) = answer_plane(network, embedding, [MIDDLE], advise=False)
    surer = replace(found.kept, probability=np.maximum(found.kept.probability, 1) // 2 + 127)
    surer = replace(surer, mask=found.kept.mask & (np.arange(44) < 20))
    labels, probability, _ = joined([found.kept, None, surer], truth.shape[1:])
    assert set(np.unique(labels)) <= {0, 1, 3}
    assert ((labels > 0) == found.kept.mask).all()
    wins = surer.mask & (surer.probability > found.kept.probability)
    assert (labels[wins] == 3).all()
    assert (probability == np.maximum(found.kept.probability, surer.probability)).all()


def test_a_mask_of_which_little_is_expected_is_no_alternative(network):
    image, _ = ball()
    embedding = network.encode(planes(image)(6))

    def doubtful(decoded, kinds):
        found = uncalibrated(decoded, kinds)
        expected = torch.tensor([[0.8, 0.7, 0.1]])
        return replace(found, expected_iou=expected, task_gap=torch.tensor([0.3]), chosen=torch.tensor([0]))

    (found,) = answer_plane(network, embedding, [MIDDLE], doubtful, advise=False)
    assert found.shown[0]
    assert not found.shown[2]
    assert found.ahead == pytest.approx(0.8 - found.expected_iou[found.own])
