"""Monte-Carlo references: what disagreement among models, prompts, augmentations or hypotheses says (paper, section 3).

They cost many passes and are what the heads are compared with. Every reference is the foreground entropy of a mixture
in which one factor is varied and the others are held; none subtracts the entropy of its members, so all of them hold
that of a single mask. `chain` takes a prediction apart instead, into terms that add up.

The paper picks the hypothesis of every member of a mixture by the ground truth. Nobody has that where a mask is
wanted; here the network's own pick is taken, or the hypothesis most like the reference's, and the truth only if asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError, InputError
from ...segmenters.promptable import Decoded, Embedding, PromptableSegmenter
from ...types import SpatialPrompt
from .entropy import foreground_entropy, information_chain, mixture, mixture_weights, support_of
from .mask_grid import pairwise_iou, shown_cells

LOGIT_LIMIT = 32.0

Choice = Literal["own", "matched"] | Int[Tensor, "members prompts"]
"""Which hypothesis stands for a member of a mixture: its network's `own` pick; the one `matched`, with the largest IoU
with the own pick of the first member; or given as numbers, such as the truly best ones of the paper, which cannot be
known where a mask is wanted."""


def probability_maps(
    answers: Sequence[Decoded],
) -> Float[Tensor, "members prompts hypotheses rows columns"]:
    """Probabilities of several answers to the same questions, on the mask grid of the first, its padding cut off.

    Args:
        answers: at least one, of equal rows; of networks with other mask grids too, which are read bilinearly.

    Raises:
        InputError: no answers, or other numbers of prompts.
    """
    if len({len(answer.estimates) for answer in answers}) != 1:
        rows = ", ".join(str(len(answer.estimates)) for answer in answers)
        raise InputError(f"Answers to {rows or 'no'} prompts, expected some, to the same prompts each.")
    sides = answers[0].logits.shape[-2:]
    maps = []
    for answer in answers:
        logits = answer.logits.float()
        if logits.shape[-2:] != sides:
            logits = F.interpolate(logits, sides, mode="bilinear", align_corners=False)
        maps.append(torch.sigmoid(logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT)))
    return shown_cells(torch.stack(maps), answers[0].frame)


def chosen(answers: Sequence[Decoded], choice: Choice) -> Int[Tensor, "members prompts"]:
    """Number of the hypothesis that stands for each member, see `Choice`.

    Raises:
        ConfigError: another word.
        InputError: numbers of another shape.
    """
    own = torch.stack([answer.own_pick() for answer in answers])
    if isinstance(choice, Tensor):
        if choice.shape != own.shape:
            raise InputError(
                f"Chosen hypotheses {tuple(choice.shape)}, expected (members, prompts) {tuple(own.shape)}."
            )
        return choice
    if choice == "own":
        return own
    if choice != "matched":
        raise ConfigError(f"choice={choice!r}, expected own, matched or numbers of hypotheses.")
    masks = probability_maps(answers) > 0.5
    reference = masks[0].gather(1, own[0][:, None, None, None].expand(-1, 1, *masks.shape[-2:]))
    matched = pairwise_iou(masks, reference.expand(len(masks), -1, -1, -1, -1))[..., 0].argmax(dim=2)
    return torch.cat([own[:1], matched[1:]])


def single_entropy(answer: Decoded, choice: Choice = "own") -> Float[Tensor, "prompts"]:
    """H_Std: entropy of one hypothesis, bits per foreground pixel. Needs no further pass."""
    return mixture_entropy([answer], choice)


def mixture_entropy(answers: Sequence[Decoded], choice: Choice = "own") -> Float[Tensor, "prompts"]:
    """H_Theta, H_XP or H_T: entropy of the mean of one hypothesis per member, bits per foreground pixel.

    Args:
        answers: of several models, to several prompts for the same object, or about several augmentations of the
            plane; the first one is the reference.
        choice: of the hypotheses.
    """
    return foreground_entropy(_chosen_maps(answers, choice).mean(dim=0))


def task_entropy(answer: Decoded) -> Float[Tensor, "prompts"]:
    """H_A: entropy of the mixture of the three hypotheses by their estimated IoUs. Needs no further pass."""
    maps = probability_maps([answer])[0]
    return foreground_entropy(mixture(hypothesis_weights(answer), maps))


def predictive_entropy(answers: Sequence[Decoded]) -> Float[Tensor, "prompts"]:
    """H_Y: entropy of the mixture over all members and their hypotheses.

    Args:
        answers: of every combination of model, augmentation and prompt, in any order.
    """
    maps = probability_maps(answers)
    weights = torch.stack([hypothesis_weights(answer) for answer in answers])
    return foreground_entropy(mixture(weights, maps).mean(dim=0))


def hypothesis_weights(answer: Decoded) -> Float[Tensor, "prompts hypotheses"]:
    """Shares of the hypotheses by the network's own estimates of IoU, those below 0 counting as 0."""
    return mixture_weights(answer.estimates.float().clamp(min=0))


def reference_entropies(
    answer: Decoded,
    models: Sequence[Decoded] = (),
    prompts: Sequence[Decoded] = (),
    augmentations: Sequence[Decoded] = (),
    choice: Literal["own", "matched"] = "own",
) -> dict[str, Float[Tensor, "prompts"]]:
    """All references that can be computed, by name: `single`, `task`, and each factor of which members are given.

    Args:
        answer: of the network in question.
        models: answers of other networks; likewise for other prompts and other augmentations of the plane. The
            answer itself is always a member.
        prompts: answers to other prompts for the same objects.
        augmentations: answers about changed planes.
        choice: of the hypotheses.
    """
    found = {"single": single_entropy(answer), "task": task_entropy(answer)}
    factors = {"models": models, "prompts": prompts, "augmentations": augmentations}
    return found | {
        name: mixture_entropy([answer, *members], choice) for name, members in factors.items() if members
    }


def chain(
    answers: Sequence[Sequence[Decoded]], factors: tuple[str, str] = ("models", "prompts")
) -> dict[str, Float[Tensor, "prompts"]]:
    """What two factors and the hypotheses tell, and what is left: terms >= 0 that add up to `total`, bits per pixel.

    Entropies are plain means over the pixels that any map may hold, see `entropy.information_chain`.

    Args:
        answers: one sequence per value of the first factor, one answer per value of the second.
        factors: their names; the third is `hypotheses`.

    Raises:
        InputError: other numbers of answers per value, or of prompts.
    """
    inner = {len(part) for part in answers}
    if len(inner) != 1:
        raise InputError(f"{sorted(inner)} answers per value of {factors[0]}, expected as many for each.")
    flat = [answer for part in answers for answer in part]
    maps = probability_maps(flat).unflatten(0, (len(answers), -1)).movedim(3, 2)
    weights = (
        torch.stack([hypothesis_weights(a) for a in flat]).unflatten(0, (len(answers), -1)).movedim(3, 2)
    )
    support = support_of(maps.flatten(0, 2).movedim(0, 1))
    return information_chain(maps, (*factors, "hypotheses"), weights, support)


def clicks_within(
    masks: Bool[Tensor, "prompts height width"], count: int, seed: int = 0
) -> list[SpatialPrompt]:
    """`count` times one positive click per mask, at a uniform pixel of it: other prompts that might have been given.

    Drawn from predicted masks, they make the prompt reference one that can be computed where a mask is wanted.

    Args:
        masks: of the plane; an empty one is clicked anywhere.
        count: how many prompts.
        seed: of the draws.

    Example:
        >>> masks = torch.zeros(1, 5, 5, dtype=torch.bool)
        >>> masks[0, 2, 3] = True
        >>> [prompt.coordinates.tolist() for prompt in clicks_within(masks, 2)]
        [[[[2.0, 3.0]]], [[[2.0, 3.0]]]]
    """
    generator = torch.Generator().manual_seed(seed)
    flat = masks.flatten(1).float().cpu()
    weights = torch.where(flat.any(dim=1, keepdim=True), flat, 1.0)
    drawn = torch.stack([torch.multinomial(w, count, replacement=True, generator=generator) for w in weights])
    places = torch.stack([drawn // masks.shape[-1], drawn % masks.shape[-1]], dim=-1).float()
    signs = torch.ones(len(masks), 1, dtype=torch.long)
    return [SpatialPrompt(places[:, i : i + 1], signs) for i in range(count)]


def resampled(
    network: PromptableSegmenter, embedding: Embedding, prompts: Sequence[SpatialPrompt]
) -> list[Decoded]:
    """Answers to other prompts for the same objects, from the embedding that is there already."""
    return [network.decode(embedding, prompt) for prompt in prompts]


def _chosen_maps(answers: Sequence[Decoded], choice: Choice) -> Float[Tensor, "members prompts rows columns"]:
    maps = probability_maps(answers)
    index = chosen(answers, choice).to(maps.device)[:, :, None, None, None]
    return maps.gather(2, index.expand(-1, -1, 1, *maps.shape[-2:]))[:, :, 0]
