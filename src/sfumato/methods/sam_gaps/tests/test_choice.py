"""Which mask is offered, and when somebody is asked."""

from __future__ import annotations

import pytest
import torch

from sfumato.errors import InputError
from sfumato.methods.sam_gaps.choice import distinct_masks, offer_masks


def stripes(*ends: int) -> torch.Tensor:
    """Masks of 20 cells, each set up to an end."""
    return torch.stack([torch.arange(20)[None] < end for end in ends])


def drawn(seed: int, rows: int = 40):
    g = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, 21, (rows, 3), generator=g)
    masks = torch.stack([stripes(*row) for row in ends.tolist()])
    return masks, torch.rand(rows, 3, generator=g), torch.rand(rows, generator=g) * 0.5


def slow_offer(masks, expected, gap, threshold, same):
    """One prompt with sets."""
    sets = [frozenset(m.flatten().nonzero()[:, 0].tolist()) for m in masks]
    order = sorted(range(3), key=lambda j: -float(expected[j]))
    kept = [order[0]]
    for j in order[1:]:
        likeness = [
            len(sets[j] & sets[k]) / len(sets[j] | sets[k]) if sets[j] | sets[k] else 1.0 for k in kept
        ]
        if sets[j] and max(likeness) < same:
            kept.append(j)
    ask = float(gap) > threshold and len(kept) > 1
    return order[0], ask, kept if ask else kept[:1]


@pytest.mark.parametrize("same", [0.5, 0.9])
def test_offers_agree_with_sets(same):
    masks, expected, gap = drawn(0)
    offer = offer_masks(masks, expected, gap, 0.2, same)
    for i in range(len(masks)):
        chosen, ask, shown = slow_offer(masks[i], expected[i], gap[i], 0.2, same)
        assert int(offer.chosen[i]) == chosen
        assert bool(offer.ask[i]) == ask
        assert set(offer.shown[i].nonzero()[:, 0].tolist()) == set(shown)


def test_a_higher_threshold_asks_less_often_and_never_changes_the_choice():
    masks, expected, gap = drawn(1)
    offers = [offer_masks(masks, expected, gap, t) for t in (-1.0, 0.1, 0.3, 9.0)]
    asked = [int(o.ask.sum()) for o in offers]
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == 0
    assert all(torch.equal(o.chosen, offers[0].chosen) for o in offers)
    for offer in offers:
        assert offer.shown.gather(1, offer.chosen[:, None]).all()
        assert (offer.shown.sum(dim=1) > 1).equal(offer.ask)


def test_masks_that_look_alike_are_one_alternative():
    masks = torch.stack([stripes(20, 19, 10)])
    order = torch.tensor([[0, 1, 2]])
    assert distinct_masks(masks, order).tolist() == [[True, False, True]]
    assert distinct_masks(masks, order, same=0.99).tolist() == [[True, True, True]]
    alike = torch.stack([stripes(20, 19, 20)])
    offer = offer_masks(alike, torch.tensor([[0.9, 0.5, 0.4]]), torch.tensor([0.9]), 0.1)
    assert offer.ask.tolist() == [False]  # there is nothing to choose from


def test_everything_must_speak_of_the_same_prompts():
    masks, expected, gap = drawn(0)
    with pytest.raises(InputError, match="for the same"):
        offer_masks(masks[1:], expected, gap, 0.1)
    with pytest.raises(InputError, match="for the same"):
        offer_masks(masks, expected, gap[1:], 0.1)
