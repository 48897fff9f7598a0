"""What one more click is worth, by where it is placed: as advised, anywhere, or in the largest mistake."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...errors import InputError
from ...segmenters.promptable import Decoded, Embedding, PromptableSegmenter
from ...types import SpatialPrompt
from .advice import next_click, with_click
from .candidates import largest_part, middle_cell
from .collect import true_iou
from .references import hypothesis_weights

MARGIN = 0.25
"""Random clicks fall into the box of everything that may be the object, wider by this share of its sides."""


@dataclass(frozen=True)
class ClickExperiment:
    """True IoU of the network's own pick for each prompt.

    Args:
        before: without a further click.
        advised: after the click of `next_click` that looks ahead.
        uncertain: after its click that does not.
        random: after a click at a random pixel.
        oracle: after a click in the middle of the largest region of mistakes, which only the truth tells.
    """

    before: Float[Tensor, "prompts"]
    advised: Float[Tensor, "prompts"]
    uncertain: Float[Tensor, "prompts"]
    random: Float[Tensor, "prompts"]
    oracle: Float[Tensor, "prompts"]


def click_experiment(
    model: PromptableSegmenter,
    embedding: Embedding,
    prompt: SpatialPrompt,
    truth: Bool[Tensor, "height width"],
    weights: Float[Tensor, "prompts hypotheses"] | None = None,
    seed: int = 0,
) -> ClickExperiment:
    """Click once more in every way; the sign is always what the truth says at the clicked pixel.

    Args:
        model: the network.
        embedding: of the plane.
        prompt: questions about one object.
        truth: where it is.
        weights: of the hypotheses, such as `Assessment.expected_iou`; None takes the network's own estimates.
        seed: of the random clicks.

    Raises:
        InputError: a truth of another size than the plane.
    """
    if tuple(truth.shape) != embedding.frame.sides:
        raise InputError(f"Truth {tuple(truth.shape)}, expected the plane's size {embedding.frame.sides}.")
    decoded = model.decode(embedding, prompt)
    weights = hypothesis_weights(decoded) if weights is None else weights
    masks = decoded.masks().cpu()
    own = masks[torch.arange(len(masks)), decoded.own_pick().cpu()]
    places = {
        "advised": next_click(decoded, weights, model, embedding, prompt).coordinates,
        "uncertain": next_click(decoded, weights).coordinates,
        "random": _random_pixels(masks.any(dim=1), torch.Generator().manual_seed(seed)),
        "oracle": torch.stack([_middle_of_mistakes(mask, truth.cpu()) for mask in own]),
    }
    found = {name: _iou_after(model, embedding, prompt, truth, at) for name, at in places.items()}
    return ClickExperiment(before=_own_iou(decoded, truth), **found)


def _iou_after(
    model: PromptableSegmenter,
    embedding: Embedding,
    prompt: SpatialPrompt,
    truth: Tensor,
    pixels: Float[Tensor, "prompts 2"],
) -> Float[Tensor, "prompts"]:
    """True IoU when every prompt gets its click."""
    signs = truth.cpu()[pixels[:, 0].long(), pixels[:, 1].long()].long()
    rows = range(len(prompt))
    return torch.cat(
        [
            _own_iou(
                model.decode(embedding, with_click(prompt[i], pixels[i : i + 1], signs[i : i + 1])), truth
            )
            for i in rows
        ]
    )


def _own_iou(decoded: Decoded, truth: Tensor) -> Float[Tensor, "prompts"]:
    return true_iou(decoded, truth).gather(1, decoded.own_pick().cpu()[:, None])[:, 0]


def _random_pixels(support: Bool[Tensor, "prompts height width"], generator: torch.Generator) -> Tensor:
    """(prompts, 2): a pixel in each support's box, which is widened by `MARGIN`; anywhere if there is no support."""
    sides = torch.tensor(support.shape[1:])
    found = []
    for mask in support:
        inside = mask.nonzero() if mask.any() else torch.stack([torch.zeros(2).long(), sides - 1])
        first, last = inside.amin(dim=0), inside.amax(dim=0)
        margin = (MARGIN * (last - first + 1)).round().long()
        first, last = (first - margin).clamp(min=0), torch.minimum(last + margin, sides - 1)
        found.append(first + (torch.rand(2, generator=generator) * (last - first + 1)).long())
    return torch.stack(found).float()


def _middle_of_mistakes(mask: Bool[Tensor, "height width"], truth: Bool[Tensor, "height width"]) -> Tensor:
    """(2,): the middle of the largest connected region of misses or of surplus; of the truth if all is right."""
    parts = [largest_part((truth & ~mask).numpy()), largest_part((mask & ~truth).numpy())]
    largest = max(parts, key=lambda part: int(part.sum()))
    return torch.tensor(middle_cell(largest if largest.any() else truth.numpy())).float()
