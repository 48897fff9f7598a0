"""The phantom's answers are known: nested masks, too confident, every row for itself."""

import pytest
import torch

from sfumato.errors import InputError
from sfumato.segmenters.promptable import PromptableSegmenter
from sfumato.segmenters.promptable.layouts import by_layout
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.types import SpatialPrompt


def disc(sides: tuple[int, int], centre: tuple[float, float], radius: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(*(torch.arange(float(n)) for n in sides), indexing="ij")
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2


def plane_of_discs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A small disc of one intensity, and a large one whose right half is brighter."""
    small, large = disc((48, 64), (12, 14), 6), disc((48, 64), (28, 44), 14)
    plane = torch.full((48, 64), 0.2)
    plane[small] = 0.9
    plane[large] = 0.5
    plane[large & (torch.arange(64) > 44)] = 0.75
    return plane[None], small, large


def every_kind(mask_sides: tuple[int, int] = (32, 32)) -> SpatialPrompt:
    """One click, two clicks, a box, a box with a click, a mask, a mask with a click."""
    prompts = SpatialPrompt.of_points(
        [[(12, 14, 1)], [(28, 40, 1), (12, 14, 0)], [], [(28, 44, 1)], [], [(28, 44, 1)]]
    )
    corners = torch.full((6, 2, 2), torch.nan)
    corners[2] = torch.tensor([[5.0, 7.0], [19.0, 21.0]])
    corners[3] = torch.tensor([[42.0, 58.0], [13.0, 29.0]])  # the other order of the corners
    mask = torch.full((6, *mask_sides), torch.nan)
    mask[4:] = -5
    mask[4:, 3:9, 4:10] = 5
    return SpatialPrompt(prompts.coordinates, prompts.signs, corners, mask)


def iou(masks: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return (masks & truth).flatten(-2).sum(-1) / (masks | truth).flatten(-2).sum(-1)


def test_a_plain_disc_is_found_and_one_of_two_intensities_is_not():
    plane, small, large = plane_of_discs()
    network = PhantomPromptable()
    assert isinstance(network, PromptableSegmenter)
    embedding = network.encode(plane)
    decoded = network.decode(embedding, SpatialPrompt.of_points([[(12, 14, 1)], [(28, 34, 1)]]))
    masks = decoded.masks()
    assert iou(masks[0], small).max() > 0.75
    assert iou(masks[1], large).max() < 0.6
    assert (decoded.estimates > 0.8).all()  # over-confident
    boxed = network.decode(embedding, SpatialPrompt.of_boxes(torch.tensor([[[14.0, 30.0], [42.0, 58.0]]])))
    assert iou(boxed.masks()[0], large).max() > iou(masks[1], large).max()


def test_hypotheses_are_nested():
    plane, _, _ = plane_of_discs()
    network = PhantomPromptable()
    logits = network.decode(network.encode(plane), every_kind()).logits
    assert (logits[:, 0] <= logits[:, 1]).all()
    assert (logits[:, 1] <= logits[:, 2]).all()


def test_a_finer_phantom_is_the_better_one():
    plane, small, _ = plane_of_discs()
    prompt = SpatialPrompt.of_points([[(12, 14, 1)]])
    found = [
        float(iou(n.decode(n.encode(plane), prompt).masks()[0], small).max())
        for n in (PhantomPromptable(64), PhantomPromptable(256))
    ]
    assert found[0] < found[1]
    assert PhantomPromptable(64).card.key != PhantomPromptable(256).card.key


def test_every_row_is_for_itself():
    plane, _, _ = plane_of_discs()
    network = PhantomPromptable()
    embedding, prompts = network.encode(plane), every_kind()
    together = network.decode(embedding, prompts)
    for i in range(len(prompts)):
        alone = network.decode(embedding, prompts[i])
        for name in ("logits", "estimates", "iou_token", "mask_tokens", "single_logits"):
            assert torch.allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=1e-5), (i, name)


def test_layouts_keep_every_row_once_and_drop_what_is_no_click():
    prompts = every_kind()
    parts = by_layout(prompts, at_most=1)
    assert sorted(int(rows) for rows, _ in parts) == list(range(6))
    for rows, part in parts:
        row = prompts[rows]
        clicks = row.signs[0] >= 0
        assert part.signs.tolist() == [row.signs[0][clicks].tolist()]
        assert torch.equal(part.coordinates[0], row.coordinates[0][clicks])
        assert (part.corners is not None) == (int(rows) in (2, 3))
        assert (part.mask is not None) == (int(rows) in (4, 5))
        if part.corners is not None:
            assert (part.corners[:, 0] <= part.corners[:, 1]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:0], "at least one row"),
        (lambda p: SpatialPrompt(p.coordinates, p.signs), "Prompt 2 has neither"),
        (lambda p: SpatialPrompt(p.coordinates, p.signs * 2, p.corners, p.mask), "Signs of clicks"),
        (lambda p: SpatialPrompt(p.coordinates / 0, p.signs, p.corners, p.mask), "not finite"),
        (lambda p: SpatialPrompt(p.coordinates, p.signs, p.corners / p.corners[2], p.mask), "finite corners"),
    ],
    ids=["no rows", "empty row", "signs", "infinite click", "half a box"],
)
def test_prompts_that_nobody_can_answer_are_refused(change, message):
    network = PhantomPromptable()
    embedding = network.encode(plane_of_discs()[0])
    prompts = every_kind()
    assert prompts.corners is not None
    prompts.corners[2, 0, 0] = 0.0  # so that dividing by that box leaves one corner that is not a number
    with pytest.raises(InputError, match=message):
        network.decode(embedding, change(prompts))


def test_other_planes_and_embeddings_are_refused():
    plane = plane_of_discs()[0]
    network = PhantomPromptable()
    for wrong in (plane[0], torch.cat([plane, plane]), plane * 300, plane * torch.nan):
        with pytest.raises(InputError):
            network.encode(wrong)
    with pytest.raises(InputError, match="expected one of phantom"):
        network.decode(PhantomPromptable(64).encode(plane), every_kind())
