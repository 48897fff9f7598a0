from __future__ import annotations

import pytest
import torch

from sfumato.errors import InputError, StorageError
from sfumato.segmenters.promptable.named import describe_promptable, open_promptable
from sfumato.segmenters.promptable.prompted_segmenter import PromptedSegmenter
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.types import Batch, BoxPrompt, PointPrompt, SpatialPrompt, TextPrompt


def discs() -> torch.Tensor:
    image = torch.zeros(2, 1, 40, 52)
    image[0, :, 8:20, 8:20] = 0.9
    image[1, :, 20:34, 24:40] = 0.6
    return image


CLICKS = SpatialPrompt.of_points([[(14, 14, 1)], [(27, 31, 1)]])


@pytest.fixture
def segmenter() -> PromptedSegmenter:
    return PromptedSegmenter(PhantomPromptable(), channels=1)


def test_it_gives_the_own_pick_of_each_row_s_own_decode(segmenter):
    image = discs()
    found = segmenter.segment(Batch(image, CLICKS))
    model = segmenter.model
    for row in range(2):
        alone = model.decode(model.encode(image[row]), CLICKS[row])
        pick = int(alone.estimates[0].argmax())
        assert torch.equal(found.logits[row, 0], alone.plane_logits()[0, pick])
        assert torch.equal(found.labels()[row].bool(), alone.masks()[0, pick])
        assert torch.equal(found.features["mask_tokens"][row], alone.mask_tokens[0])
        assert torch.equal(found.features["iou_token"][row], alone.iou_token)
        assert torch.equal(found.features["estimates"][row], alone.estimates)


def test_points_and_boxes_of_the_other_types_are_the_same_prompts(segmenter):
    image = discs()
    points = PointPrompt(CLICKS.coordinates, CLICKS.signs)
    boxes = torch.tensor([[[8.0, 8.0], [19.0, 19.0]], [[20.0, 24.0], [33.0, 39.0]]])
    for one, other in ((CLICKS, points), (SpatialPrompt.of_boxes(boxes), BoxPrompt(boxes))):
        first, second = (segmenter.segment(Batch(image, prompt)) for prompt in (one, other))
        assert torch.equal(first.logits, second.logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": None}, "has no prompt, expected a SpatialPrompt"),
        ({"prompt": TextPrompt(("a disc", "a disc"))}, "a TextPrompt, expected"),
        ({"prompt": CLICKS[0]}, "1 prompts for 2 images"),
        ({"image": discs().repeat(1, 3, 1, 1)}, "3 image channels, expected 1"),
        ({"image": discs()[0]}, "expected \\(batch, 1, H, W\\)"),
        ({"image": 255 * discs()}, "expected finite numbers in \\[0, 1\\]"),
    ],
)
def test_what_cannot_be_answered_is_refused(segmenter, change, message):
    fields = {"image": discs(), "prompt": CLICKS} | change
    with pytest.raises(InputError, match=message):
        segmenter.segment(Batch(**fields))


def test_a_network_is_opened_by_its_name_and_only_if_it_is_the_same(segmenter):
    said = describe_promptable(segmenter)
    again = open_promptable(said)
    assert again.model.card.key == segmenter.model.card.key
    assert again.spec == segmenter.spec
    with pytest.raises(StorageError, match="means nothing on another"):
        open_promptable(said | {"key": "phantom/0000/sam/side=128"})
    with pytest.raises(StorageError, match="expected format 1"):
        open_promptable({"format": 2})
