"""References against worked examples, loops and degenerate factors."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError
from sfumato.methods.sam_gaps.entropy import foreground_entropy
from sfumato.methods.sam_gaps.references import (
    chain,
    chosen,
    clicks_within,
    mixture_entropy,
    predictive_entropy,
    probability_maps,
    reference_entropies,
    resampled,
    single_entropy,
    task_entropy,
)
from sfumato.segmenters.promptable import Decoded, Frame
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.types import SpatialPrompt

CERTAIN = 40.0


def answer(logits: torch.Tensor, estimates: torch.Tensor, sides: tuple[int, int] | None = None) -> Decoded:
    rows, cells = len(logits), logits.shape[-1]
    frame = Frame(sides or (cells * 4, cells * 4), cells * 4)
    return Decoded(logits, estimates, torch.zeros(rows, 8), torch.zeros(rows, 4, 8), frame)


def drawn(seed: int, rows: int = 2, cells: int = 6, sides: tuple[int, int] | None = None) -> Decoded:
    g = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, 3, cells, cells, generator=g)
    return answer(logits, torch.rand(rows, 3, generator=g), sides)


def test_hypotheses_of_the_worked_example():
    """100 pixels, first 40, 20 and 80 set, scores .9, .6, .3."""
    logits = torch.full((1, 3, 100), -CERTAIN)
    for j, count in enumerate((40, 20, 80)):
        logits[0, j, :count] = CERTAIN
    found = task_entropy(answer(logits.reshape(1, 3, 10, 10), torch.tensor([[0.9, 0.6, 0.3]])))
    assert float(found) == pytest.approx(0.41445, abs=5e-5)


def test_degenerate_factors_leave_the_single_entropy():
    one = drawn(0)
    single = single_entropy(one)
    torch.testing.assert_close(mixture_entropy([one] * 4), single)
    torch.testing.assert_close(mixture_entropy([one]), single)
    torch.testing.assert_close(mixture_entropy([one] * 3, "matched"), single)
    sure = answer(one.logits, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(task_entropy(sure), single_entropy(sure))
    torch.testing.assert_close(predictive_entropy([sure, sure]), single_entropy(sure))
    negative = answer(one.logits, torch.tensor([[-0.2, 1.0, -0.1], [1.0, -3.0, 0.0]]))
    torch.testing.assert_close(task_entropy(negative), task_entropy(sure))


def test_the_full_mixture_agrees_with_loops():
    answers = [drawn(seed) for seed in range(4)]
    for row in range(2):
        mixed = 0.0
        for one, j in product(answers, range(3)):
            weight = float(one.estimates[row, j] / one.estimates[row].sum())
            mixed = mixed + weight / 4 * torch.sigmoid(one.logits[row, j].clamp(-32, 32)).double()
        assert float(predictive_entropy(answers)[row]) == pytest.approx(
            float(foreground_entropy(mixed)), abs=1e-6
        )


def test_which_hypothesis_stands_for_a_member():
    answers = [drawn(seed) for seed in range(3)]
    own = chosen(answers, "own")
    assert own.tolist() == [a.estimates.argmax(dim=1).tolist() for a in answers]
    matched = chosen(answers, "matched")
    assert matched[0].tolist() == own[0].tolist()
    for member, row in product((1, 2), range(2)):
        reference = answers[0].logits[row, own[0, row]] > 0
        overlaps = []
        for j in range(3):
            mask = answers[member].logits[row, j] > 0
            overlaps.append(float((mask & reference).sum() / (mask | reference).sum()))
        assert int(matched[member, row]) == int(np.argmax(overlaps))
    given = torch.tensor([[0, 1], [2, 0], [1, 1]])
    mixed = [torch.stack([torch.sigmoid(a.logits[0, j]) for a, j in zip(answers, given[:, 0], strict=True)])]
    expected = foreground_entropy(mixed[0].mean(dim=0))
    assert float(mixture_entropy(answers, given)[0]) == pytest.approx(float(expected), abs=1e-6)
    with pytest.raises(InputError, match=r"\(members, prompts\)"):
        chosen(answers, given[:2])
    with pytest.raises(ConfigError, match="choice='best'"):
        chosen(answers, "best")  # type: ignore[arg-type]


def test_matching_repairs_members_that_call_the_object_by_another_number():
    one = drawn(0, rows=1)
    turned = answer(one.logits[:, [1, 2, 0]], one.estimates)
    assert float(mixture_entropy([one, turned], "matched")) == pytest.approx(float(single_entropy(one)))
    assert float(mixture_entropy([one, turned], "own")) != pytest.approx(float(single_entropy(one)), abs=0.01)


def test_the_reference_stands_for_itself_even_beside_an_equal_mask():
    one = drawn(0, rows=1)
    doubled = answer(
        one.logits[:, [0, 0, 0]] * torch.tensor([1.0, 2.0, 3.0])[:, None, None], torch.eye(3)[2:]
    )
    assert chosen([doubled, doubled], "matched").tolist() == [[2], [0]]


def test_padding_and_other_grids_change_nothing():
    square = drawn(0, cells=8)
    wide = answer(square.logits, square.estimates, sides=(16, 32))  # lower half of the grid is padding
    assert probability_maps([wide]).shape[-2:] == (4, 8)
    torch.testing.assert_close(
        single_entropy(wide),
        foreground_entropy(
            torch.sigmoid(
                wide.logits.gather(1, wide.own_pick()[:, None, None, None].expand(-1, 1, 8, 8))[:, 0, :4]
            )
        ),
    )
    smooth = answer(torch.linspace(-3, 3, 8).expand(1, 3, 8, 8).contiguous(), torch.rand(1, 3))
    fine = torch.nn.functional.interpolate(smooth.logits, (16, 16), mode="bilinear")
    finer = Decoded(fine, smooth.estimates, smooth.iou_token, smooth.mask_tokens, Frame((32, 32), 64))
    coarse, brought = probability_maps([smooth, finer])
    torch.testing.assert_close(coarse[..., 1:-1], brought[..., 1:-1], atol=0.01, rtol=0)


def test_the_chain_is_positive_and_adds_up():
    answers = [[drawn(3 * i + j) for j in range(3)] for i in range(2)]
    found = chain(answers)
    assert list(found) == ["models", "prompts", "hypotheses", "rest", "total"]
    total = found.pop("total")
    assert all((term > 0).all() for term in found.values())
    torch.testing.assert_close(sum(found.values()), total)
    same = chain([answers[0], answers[0]])
    assert float(same["models"].abs().max()) < 1e-12
    with pytest.raises(InputError, match="as many for each"):
        chain([answers[0], answers[1][:2]])


def test_everything_that_can_be_computed_by_name():
    one, other = drawn(0), drawn(1)
    assert list(reference_entropies(one)) == ["single", "task"]
    found = reference_entropies(one, models=[other], prompts=[other, other])
    assert list(found) == ["single", "task", "models", "prompts"]
    torch.testing.assert_close(found["models"], mixture_entropy([one, other]))
    with pytest.raises(InputError, match="the same prompts"):
        reference_entropies(one, models=[drawn(1, rows=3)])


def test_clicks_lie_evenly_in_their_masks():
    masks = torch.zeros(2, 9, 7, dtype=torch.bool)
    masks[0, 2:5, 1:3] = True
    prompts = clicks_within(masks, 600)
    clicks = torch.cat([p.coordinates for p in prompts], dim=1).long()
    counts = torch.zeros(9, 7)
    for row, column in clicks[0].tolist():
        counts[row, column] += 1
    assert (counts[masks[0]] > 60).all()
    assert counts[~masks[0]].sum() == 0
    assert len(clicks[1].unique(dim=0)) > 55  # an empty mask is clicked anywhere
    again = clicks_within(masks, 600)
    assert all(torch.equal(a.coordinates, b.coordinates) for a, b in zip(prompts, again, strict=True))


def test_prompts_matter_more_for_a_disc_of_two_intensities():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    plane = torch.full((1, 64, 64), 0.2)
    away = [(rows - at).square() + (columns - at).square() for at in (16, 46)]
    plane[0, away[0] < 144] = 0.9
    plane[0, away[1] < 144] = 0.5
    plane[0, (away[1] < 144) & (columns > 46)] = 0.75
    network = PhantomPromptable()
    embedding = network.encode(plane)
    asked = network.decode(embedding, SpatialPrompt.of_points([[(16, 16, 1)], [(46, 46, 1)]]))
    others = resampled(network, embedding, clicks_within(torch.stack([d < 36 for d in away]), 8))
    largest = torch.full((9, 2), 2)  # the two smaller hypotheses end at a distance from the click
    extra = mixture_entropy([asked, *others], largest) - single_entropy(asked, largest[:1])
    assert extra[1] > extra[0] + 0.05
