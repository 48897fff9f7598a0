"""Where to click next: the place at which the answer is expected to improve most, whatever the truth turns out to be.

A click's sign is not for us to choose: a person clicks + on what belongs to the object and - on what does not. But
under each mask that may be the truth the sign is known, and so is the IoU of the network's answer to it. One step is
looked ahead: both signs of all candidates are decoded at once, and the expected gain of a place is

    sum over masks h of  share_h (IoU(answer to the sign under h, h) - IoU(current mask, h)).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import ConfigError, InputError
from ...segmenters.promptable import Decoded, Embedding, PromptableSegmenter
from ...types import SpatialPrompt
from .belief import Belief, beliefs
from .candidates import Candidates, find_candidates
from .mask_grid import pairwise_iou, plane_pixels, shown_cells

CANDIDATES = 8


@dataclass(frozen=True)
class Clicks:
    """One proposed click per prompt.

    Args:
        coordinates: (row, column) of a pixel of the plane.
        signs: the likelier answer there: 1 foreground, 0 background.
        gain: expected gain in IoU. With a network it is that of its answers; without one, that of a network which
            settles the click's region and changes nothing else, so it is too hopeful. 0 where nothing is in doubt.
    """

    coordinates: Float[Tensor, "prompts 2"]
    signs: Int[Tensor, "prompts"]
    gain: Float[Tensor, "prompts"]


def next_click(
    decoded: Decoded,
    weights: Float[Tensor, "prompts hypotheses"],
    model: PromptableSegmenter | None = None,
    embedding: Embedding | None = None,
    prompt: SpatialPrompt | None = None,
    count: int = CANDIDATES,
    carry_mask: bool = False,
) -> Clicks:
    """The click that is expected to help most, for every prompt.

    Args:
        decoded: the answers so far, one row per prompt; the current mask is the network's own pick.
        weights: of the hypotheses, such as `Assessment.expected_iou`.
        model: the network that answered; with it, its answers to clicks are looked at. None: only the masks at hand
            are, which costs nothing.
        embedding: of the plane; needed with a model.
        prompt: what was asked; needed with a model.
        count: places that are compared, at least one.
        carry_mask: also give the network its current logits as a mask prompt.

    Raises:
        InputError: a model without embedding or prompt, or other numbers of prompts.
        ConfigError: no places to compare.

    Example:
        >>> from sfumato.segmenters.promptable.tiny import PhantomPromptable
        >>> plane = torch.zeros(1, 64, 64)
        >>> plane[:, 10:40, 10:50] = 1
        >>> network, prompt = PhantomPromptable(), SpatialPrompt.of_points([[(20, 20, 1)]])
        >>> decoded = network.decode(network.encode(plane), prompt)
        >>> click = next_click(decoded, torch.tensor([[0.9, 0.2, 0.2]]))
        >>> bool(click.gain > 0.1), click.signs.tolist()  # the pick is thought too large
        (True, [0])
    """
    if count < 1:
        raise ConfigError(f"count={count}, expected at least one place to compare.")
    if model is not None and (embedding is None or prompt is None or len(prompt) != len(decoded.estimates)):
        raise InputError(
            f"A model with {'no' if embedding is None else 'an'} embedding and "
            f"{'no' if prompt is None else len(prompt)} prompts for {len(decoded.estimates)} answers, expected the "
            "embedding and as many prompts; leave the model out to look at the masks alone."
        )
    logits, own, grid = (
        shown_cells(decoded.logits, decoded.frame),
        decoded.own_pick(),
        decoded.logits.shape[-2:],
    )
    found = []
    for row, belief in enumerate(beliefs(decoded, weights)):
        current = logits[row, own[row]] > 0
        places = find_candidates(belief, current, count)
        if model is None or embedding is None or prompt is None:
            answers = torch.stack([current & ~places.regions, current | places.regions], dim=1)
        else:
            asked = with_mask(prompt[row], decoded.logits[row, own[row]]) if carry_mask else prompt[row]
            pixels = plane_pixels(places.cells.float(), decoded.frame, (grid[0], grid[1]))
            answers = _answers(model, embedding, asked, pixels)
        found.append(_best(belief, current, places, answers))
    cells, signs, gains = (torch.stack(part).cpu() for part in zip(*found, strict=True))
    return Clicks(plane_pixels(cells.float(), decoded.frame, (grid[0], grid[1])), signs.long(), gains)


def expected_gain(
    belief: Belief,
    current: Bool[Tensor, "rows columns"],
    answers: Bool[Tensor, "candidates 2 rows columns"],
    positive: Bool[Tensor, "candidates masks"],
) -> Float[Tensor, "candidates"]:
    """Expected gain in IoU of each place, see the head of this file.

    Args:
        belief: masks that may be the truth.
        current: the mask that is offered now.
        answers: what a background and a foreground click at each place would make of it.
        positive: whether each place is foreground under each mask of the belief.
    """
    before = pairwise_iou(current[None], belief.masks)[0]
    after = pairwise_iou(answers, belief.masks)
    under = torch.where(positive, after[:, 1], after[:, 0])
    return (under - before) @ belief.shares


def with_click(
    prompt: SpatialPrompt, pixels: Float[Tensor, "clicks 2"], signs: Int[Tensor, "clicks"]
) -> SpatialPrompt:
    """One prompt, repeated for every further click, each row with one of them added.

    Example:
        >>> longer = with_click(SpatialPrompt.of_points([[(1, 2, 1)]]), torch.ones(3, 2), torch.tensor([1, 0, 1]))
        >>> longer.signs.tolist()
        [[1, 1], [1, 0], [1, 1]]
    """
    repeated = prompt[torch.zeros(len(signs), dtype=torch.long)]
    return SpatialPrompt(
        torch.cat([repeated.coordinates, pixels[:, None].to(repeated.coordinates)], dim=1),
        torch.cat([repeated.signs, signs[:, None].to(repeated.signs)], dim=1),
        repeated.corners,
        repeated.mask,
    )


def with_mask(prompt: SpatialPrompt, logits: Float[Tensor, "rows columns"]) -> SpatialPrompt:
    """One prompt with an earlier answer, on the whole mask grid, as its mask."""
    return SpatialPrompt(prompt.coordinates, prompt.signs, prompt.corners, logits[None])


def _best(
    belief: Belief, current: Tensor, places: Candidates, answers: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Cell, likely sign and expected gain of the best place."""
    positive = belief.masks[:, places.cells[:, 0], places.cells[:, 1]].T
    gain = expected_gain(belief, current, answers, positive)
    best = gain.argmax()
    sign = positive[best].float() @ belief.shares >= 0.5
    return places.cells[best], sign, gain[best]


def _answers(
    model: PromptableSegmenter,
    embedding: Embedding,
    prompt: SpatialPrompt,
    pixels: Float[Tensor, "candidates 2"],
) -> Bool[Tensor, "candidates 2 rows columns"]:
    """The network's own picks for a background and a foreground click at each place, on the mask grid."""
    signs = torch.tensor([0, 1], device=pixels.device).repeat(len(pixels))
    answer = model.decode(embedding, with_click(prompt, pixels.repeat_interleave(2, dim=0), signs))
    logits = shown_cells(answer.logits, answer.frame)
    return (logits[torch.arange(len(logits)), answer.own_pick()] > 0).unflatten(0, (-1, 2))
