from __future__ import annotations

import pytest
import torch
from scipy import ndimage

from sfumato.errors import InputError
from sfumato.methods.sam_gaps.dense import CLICKS, dense_prompt
from sfumato.methods.sam_gaps.kinds import prompt_kinds
from sfumato.types import SpatialPrompt


def clicks_of(mask: torch.Tensor, seed: int = 0) -> list[tuple[int, int]]:
    found = dense_prompt(mask, torch.Generator().manual_seed(seed))
    assert found.signs.tolist() == [[1] * CLICKS]
    return [(int(r), int(c)) for r, c in found.coordinates[0].tolist()]


@pytest.mark.parametrize("seed", range(5))
def test_all_clicks_lie_in_the_eroded_object_and_differ(seed):
    noise = torch.rand(60, 70, generator=torch.Generator().manual_seed(seed)).numpy()
    mask = torch.from_numpy(ndimage.gaussian_filter(noise, 5) > 0.5)
    inner = ndimage.binary_erosion(mask.numpy(), structure=torch.ones(5, 5).numpy(), border_value=1)
    clicks = clicks_of(mask, seed)
    assert all(inner[place] for place in clicks)
    assert len(set(clicks)) == CLICKS


def test_the_first_click_is_nearest_to_the_centroid():
    ring = torch.zeros(31, 31, dtype=torch.bool)
    rows, columns = torch.meshgrid(torch.arange(31), torch.arange(31), indexing="ij")
    away = ((rows - 15) ** 2 + (columns - 15) ** 2).float().sqrt()
    ring[(away > 6) & (away < 14)] = True
    inner = torch.from_numpy(ndimage.binary_erosion(ring.numpy(), structure=torch.ones(5, 5).numpy()))
    first = clicks_of(ring)[0]
    assert float(away[first]) == pytest.approx(float(away[inner].min()), abs=0.3)


def test_small_objects_still_get_eight_clicks():
    for side in (1, 3):
        mask = torch.zeros(9, 9, dtype=torch.bool)
        mask[2 : 2 + side, 3 : 3 + side] = True
        assert all(mask[place] for place in clicks_of(mask))
    two = torch.zeros(9, 9, dtype=torch.bool)
    two[4, 4:6] = True
    assert set(clicks_of(two)) <= {(4, 4), (4, 5)}


def test_a_box_that_was_given_stays():
    mask = torch.ones(9, 9, dtype=torch.bool)
    box = SpatialPrompt.of_boxes(torch.tensor([[[0.0, 0.0], [8.0, 8.0]]]))
    found = dense_prompt(mask, torch.Generator(), box)
    assert found.corners is box.corners


def test_an_empty_mask_is_our_error():
    with pytest.raises(InputError, match="An empty mask"):
        dense_prompt(torch.zeros(4, 4, dtype=torch.bool), torch.Generator())


def test_kinds_of_prompts():
    corners = torch.full((4, 2, 2), float("nan"))
    corners[1:3] = torch.tensor([[1.0, 1.0], [5.0, 6.0]])
    prompts = SpatialPrompt(torch.zeros(4, 2, 2), torch.tensor([[1, -1], [1, 0], [-1, -1], [0, 1]]), corners)
    assert prompt_kinds(prompts) == ("point", "box_and_point", "box", "points")
    with pytest.raises(InputError, match="Prompt 0 has neither"):
        prompt_kinds(SpatialPrompt(torch.zeros(1, 0, 2), torch.zeros(1, 0), None, torch.zeros(1, 4, 4)))
