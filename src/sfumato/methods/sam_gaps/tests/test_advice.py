"""Where to click next: worked examples, loops over all that may be true, and a network whose answers are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError
from sfumato.methods.sam_gaps.advice import expected_gain, next_click, with_click
from sfumato.methods.sam_gaps.belief import LEVEL_SHARE, Belief, belief_of, beliefs
from sfumato.methods.sam_gaps.candidates import find_candidates, largest_part, middle_cell
from sfumato.methods.sam_gaps.click_experiment import click_experiment
from sfumato.methods.sam_gaps.mask_grid import shown_cells
from sfumato.segmenters.promptable import Decoded, Embedding, Frame, PromptableCard
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.types import SpatialPrompt

CELLS = 16


def box(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    mask = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


ONE, BOTH, ALL = box(4, 2, 9, 6), box(4, 2, 9, 13), box(1, 1, 15, 15)
"""One of two things that touch, both together, and everything."""


def answered(*masks: torch.Tensor, own: int = 0) -> Decoded:
    """An answer of certain masks; one plane pixel per cell."""
    logits = torch.stack(masks).float() * 20 - 10
    estimates = torch.full((1, 3), 0.5)
    estimates[0, own] = 0.9
    frame = Frame((CELLS, CELLS), 4 * CELLS)
    return Decoded(logits[None], estimates, torch.zeros(1, 8), torch.zeros(1, 4, 8), frame)


class Obliging:
    """Answers with the smallest of its masks that agrees with every click; the first click alone with the first."""

    card = PromptableCard("obliging", "00" * 32, "sam", 4 * CELLS)

    def __init__(self, *masks: torch.Tensor):
        self.masks = sorted(masks, key=lambda m: int(m.sum()))
        self.asked: list[SpatialPrompt] = []

    def encode(self, plane: torch.Tensor) -> Embedding:
        frame = Frame((plane.shape[-2], plane.shape[-1]), 4 * CELLS)
        return Embedding({"image": torch.zeros(1, 1, 1)}, frame, self.card.key)

    def decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        self.asked.append(prompts)
        rows = []
        for i in range(len(prompts)):
            clicks = zip(prompts.coordinates[i].long().tolist(), prompts.signs[i].tolist(), strict=True)
            told = [(r, c, s) for (r, c), s in clicks if s >= 0]
            fine = [m for m in self.masks if all(bool(m[r, c]) == (s == 1) for r, c, s in told)]
            first = fine[0] if fine else torch.zeros(CELLS, CELLS, dtype=torch.bool)
            rows.append(answered(first, *self.masks[1:]).logits[0])
        one = answered(ONE, BOTH, ALL)
        n = len(prompts)
        return Decoded(
            torch.stack(rows), one.estimates.expand(n, -1), torch.zeros(n, 8), torch.zeros(n, 4, 8), one.frame
        )


def test_belief_is_shared_among_masks_and_cuts_of_their_mixture():
    belief = belief_of(answered(ONE, BOTH, ALL).logits[0], torch.tensor([0.9, 0.6, 0.0]))
    sharp = np.array([0.9, 0.6, 0.0]) ** 4
    expected = [*(1 - LEVEL_SHARE) * sharp / sharp.sum(), LEVEL_SHARE / 2, LEVEL_SHARE / 2]
    np.testing.assert_allclose(belief.shares.numpy(), expected, atol=1e-6)
    assert torch.equal(belief.masks[0], ONE)
    # 5/6 of the mixture is the first mask: cut at 1/4 and at 3/4 it is that mask
    assert torch.equal(belief.masks[3], ONE)
    assert torch.equal(belief.masks[4], ONE)
    inside, between = belief.foreground()[5, 3], belief.foreground()[5, 10]
    assert float(inside) == pytest.approx(1)
    assert float(between) == pytest.approx(expected[1], abs=1e-6)
    even = belief_of(answered(ONE, BOTH, ALL).logits[0], torch.zeros(3))
    np.testing.assert_allclose(even.shares[:3].numpy(), (1 - LEVEL_SHARE) / 3, atol=1e-6)


def test_the_middle_is_the_cell_furthest_from_outside():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 9)) < 0.8
        row, column = middle_cell(mask)
        outside = [
            (r, c)
            for r in range(-1, 8)
            for c in range(-1, 10)
            if not (0 <= r < 7 and 0 <= c < 9 and mask[r, c])
        ]
        depth = {
            (r, c): min((r - y) ** 2 + (c - x) ** 2 for y, x in outside)
            for r in range(7)
            for c in range(9)
            if mask[r, c]
        }
        assert depth[row, column] == max(depth.values())


def test_parts_hang_together_along_rows_and_columns():
    mask = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
    assert largest_part(mask).tolist() == [
        [False] * 4,
        [False, False, True, True],
        [False, False, False, True],
    ]
    assert not largest_part(np.zeros((2, 2), bool)).any()


def test_candidates_are_where_the_current_mask_may_be_wrong():
    belief = belief_of(answered(ONE, BOTH, ALL).logits[0], torch.tensor([0.8, 0.8, 0.3]))
    found = find_candidates(belief, ONE, most=4)
    missing = BOTH & ~ONE
    first = tuple(found.cells[0].tolist())
    assert bool(missing[first])
    assert (found.doubt.diff() <= 0).all()
    wrong = torch.where(ONE, 1 - belief.foreground(), belief.foreground())
    for region, cell, doubt in zip(found.regions, found.cells, found.doubt, strict=True):
        assert bool(region[tuple(cell)])
        assert float(doubt) == pytest.approx(float(wrong[region].sum()), rel=1e-5)
    apart = (found.cells[:, None] - found.cells[None]).abs().amax(dim=2) + 99 * torch.eye(
        len(found.cells)
    ).long()
    assert int(apart.min()) >= 2
    assert len(find_candidates(belief, ONE, most=1).cells) == 1


def test_where_nothing_is_in_doubt_the_middle_of_the_mask_gains_nothing():
    click = next_click(answered(ONE, ONE, ONE), torch.ones(1, 3))
    assert bool(ONE[tuple(click.coordinates[0].long())])
    assert click.signs.tolist() == [1]
    assert float(click.gain) == 0
    empty = torch.zeros_like(ONE)
    assert float(next_click(answered(empty, empty, empty), torch.ones(1, 3)).gain) == 0


def test_the_expected_gain_agrees_with_loops():
    g = torch.Generator().manual_seed(0)
    belief = Belief(torch.rand(4, 6, 7, generator=g) > 0.5, torch.tensor([0.4, 0.3, 0.2, 0.1]))
    current, answers = torch.rand(6, 7, generator=g) > 0.5, torch.rand(3, 2, 6, 7, generator=g) > 0.5
    positive = torch.rand(3, 4, generator=g) > 0.5

    def iou(a, b):
        return float((a & b).sum() / (a | b).sum())

    for c in range(3):
        expected = 0.0
        for h in range(4):
            answer = answers[c, 1] if positive[c, h] else answers[c, 0]
            expected += float(belief.shares[h]) * (
                iou(answer, belief.masks[h]) - iou(current, belief.masks[h])
            )
        found = expected_gain(belief, current, answers, positive)
        assert float(found[c]) == pytest.approx(expected, abs=1e-6)


def test_the_click_tells_the_two_things_apart():
    """One is offered; both together are as likely: ask about the second thing."""
    network = Obliging(ONE, BOTH, ALL)
    prompt = SpatialPrompt.of_points([[(6, 3, 1)]])
    embedding = network.encode(torch.zeros(1, CELLS, CELLS))
    decoded = answered(ONE, BOTH, ALL)
    for model in (None, network):
        given = {} if model is None else {"model": model, "embedding": embedding, "prompt": prompt}
        click = next_click(decoded, torch.tensor([[0.7, 0.8, 0.1]]), **given)
        assert bool((BOTH & ~ONE)[tuple(click.coordinates[0].long())])
        assert click.signs.tolist() == [1]
        # an obliging network settles it: all that was lost when BOTH is true is won
        share = float(belief_of(decoded.logits[0], torch.tensor([0.7, 0.8, 0.1])).shares[1])
        lost = share * (1 - ONE.sum() / BOTH.sum())
        assert float(click.gain) >= float(lost) - 1e-3
    assert len(network.asked) == 1  # both signs of all places at once
    assert set(network.asked[0].signs[:, 1].tolist()) == {0, 1}
    assert (network.asked[0].coordinates[:, 0] == torch.tensor([6.0, 3.0])).all()


def test_a_network_that_ignores_clicks_promises_nothing():
    class Stubborn(Obliging):
        def decode(self, embedding, prompts):
            n, one = len(prompts), answered(ONE, BOTH, ALL)
            rows = (one.logits, one.estimates, one.iou_token, one.mask_tokens)
            return Decoded(*(v.expand(n, *v.shape[1:]) for v in rows), one.frame)

    network = Stubborn(ONE, BOTH, ALL)
    embedding = network.encode(torch.zeros(1, CELLS, CELLS))
    click = next_click(
        answered(ONE, BOTH, ALL), torch.ones(1, 3), network, embedding, SpatialPrompt.of_points([[(6, 3, 1)]])
    )
    assert float(click.gain) == pytest.approx(0, abs=1e-6)


def test_the_current_mask_can_be_given_along():
    network = Obliging(ONE, BOTH, ALL)
    embedding = network.encode(torch.zeros(1, CELLS, CELLS))
    decoded, prompt = answered(ONE, BOTH, ALL, own=1), SpatialPrompt.of_points([[(6, 3, 1)]])
    next_click(decoded, torch.ones(1, 3), network, embedding, prompt, count=2, carry_mask=True)
    assert len(network.asked[0]) == 4
    mask = network.asked[0].mask
    assert mask is not None
    assert torch.equal(mask, decoded.logits[0, 1].expand(4, -1, -1))


def test_rows_do_not_see_each_other_and_boxes_stay():
    plane = torch.full((1, 48, 64), 0.2)
    plane[:, 8:30, 10:40] = 0.8
    plane[:, 8:30, 25:40] = 0.6
    network = PhantomPromptable()
    embedding = network.encode(plane)
    clicks = SpatialPrompt.of_points([[(15, 15, 1)], [(20, 30, 1)], []])
    corners = torch.full((3, 2, 2), torch.nan)
    corners[2] = torch.tensor([[8.0, 10.0], [29.0, 39.0]])
    prompt = replace(clicks, corners=corners)
    decoded, weights = network.decode(embedding, prompt), torch.tensor([[0.3, 0.8, 0.5]] * 3)
    together = next_click(decoded, weights, network, embedding, prompt)
    for i in range(3):
        row = network.decode(embedding, prompt[i])
        alone = next_click(row, weights[i : i + 1], network, embedding, prompt[i])
        assert torch.equal(alone.coordinates[0], together.coordinates[i])
        assert float(alone.gain[0]) == pytest.approx(float(together.gain[i]), abs=1e-5)
    longer = with_click(prompt[2], torch.ones(2, 2), torch.tensor([0, 1]))
    assert longer.corners is not None
    assert torch.equal(longer.corners, corners[2:].expand(2, -1, -1))


def test_what_does_not_fit_together_is_refused():
    network = Obliging(ONE)
    embedding = network.encode(torch.zeros(1, CELLS, CELLS))
    decoded, weights = answered(ONE, BOTH, ALL), torch.ones(1, 3)
    with pytest.raises(InputError, match="no embedding"):
        next_click(decoded, weights, network)
    with pytest.raises(InputError, match="2 prompts for 1 answers"):
        next_click(decoded, weights, network, embedding, SpatialPrompt.of_points([[(1, 1, 1)]] * 2))
    with pytest.raises(ConfigError, match="count=0"):
        next_click(decoded, weights, count=0)
    with pytest.raises(InputError, match="one finite weight each"):
        beliefs(decoded, weights[:, :2])
    with pytest.raises(InputError, match="plane's size"):
        click_experiment(network, embedding, SpatialPrompt.of_points([[(1, 1, 1)]]), torch.ones(3, 3).bool())


def test_one_click_as_advised_is_worth_more_than_one_at_random():
    network, prompt = Obliging(ONE, BOTH, ALL), SpatialPrompt.of_points([[(6, 3, 1)]] * 3)
    embedding = network.encode(torch.zeros(1, CELLS, CELLS))
    weights = torch.tensor([[0.7, 0.8, 0.1]] * 3)
    both = [click_experiment(network, embedding, prompt, BOTH, weights, seed) for seed in range(12)]
    before = float(ONE.sum() / BOTH.sum())
    assert both[0].before.tolist() == pytest.approx([before] * 3)
    for way in ("advised", "uncertain", "oracle"):
        assert getattr(both[0], way).tolist() == [1.0] * 3  # each of them asks about the second thing
    random = torch.cat([found.random for found in both])
    assert before <= float(random.mean()) < 0.95
    again = click_experiment(network, embedding, prompt, BOTH, weights, 3)
    assert torch.equal(again.random, both[3].random)
    one = click_experiment(network, embedding, prompt, ONE, weights)
    assert one.advised.tolist() == [1.0] * 3  # a click on the background, and the mask was right


def test_the_phantom_is_helped_by_the_largest_mistake():
    plane = torch.zeros(1, 64, 64)
    plane[:, 10:40, 6:58] = 1
    network, prompt = PhantomPromptable(), SpatialPrompt.of_points([[(20, 14, 1)]])
    embedding = network.encode(plane)
    found = click_experiment(network, embedding, prompt, plane[0] > 0)
    assert float(found.oracle) > float(found.before) + 0.1
    logits = network.decode(embedding, prompt).logits
    assert shown_cells(logits, embedding.frame).shape == logits.shape
