"""One plane, some objects that somebody points at: the masks, how good they are expected to be, and what would help."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..datasets.prompt_file import ObjectPrompt, spatial_rows
from ..methods.sam_gaps.advice import next_click
from ..methods.sam_gaps.choice import offer_masks
from ..methods.sam_gaps.entropy import bits, mixture, mixture_weights
from ..methods.sam_gaps.estimator import Assessment
from ..methods.sam_gaps.kinds import prompt_kinds
from ..segmenters.promptable import Decoded, Embedding, PromptableSegmenter

Assess = Callable[[Decoded, Sequence[str]], Assessment]
"""(answers, kinds of the prompts) -> what is expected of every mask; such as `SamGaps.assess`, or `uncalibrated`."""
ASK_ABOVE = 0.05
"""Task gap in IoU from which on a person is shown the alternatives."""
PLAUSIBLE = 0.5
"""Masks whose expected IoU is below this share of the best one's are no alternatives."""


@dataclass(frozen=True)
class Click:
    """A proposed click: a pixel, the likely sign (1 inside of the object, 0 outside) and the expected gain in IoU."""

    row: int
    column: int
    sign: int
    gain: float


@dataclass(frozen=True)
class PlaneMask:
    """The mask of one object on one plane.

    Args:
        mask: (height, width), of the chosen hypothesis.
        probability: (height, width) that it holds a pixel, uint8 codes of 1/255.
        entropy: (height, width) of the mixture of all three hypotheses in bits, uint8 codes of 1/255.
        expected_iou: of the mask.
        low: of the interval of its IoU.
        high: its upper end.
    """

    mask: np.ndarray
    probability: np.ndarray
    entropy: np.ndarray
    expected_iou: float
    low: float
    high: float


@dataclass(frozen=True)
class ObjectAnswer:
    """What a network answered for one object, and what is to be thought of it.

    Args:
        prompt: what was asked.
        kind: of the prompt, a name in `PROMPT_KINDS`.
        kept: the chosen mask.
        masks: (3, height, width), all hypotheses.
        shown: (3,) which of them are worth showing: distinct ones where choosing is expected to help.
        expected_iou: (3,).
        estimates: (3,) the network's own.
        above: chance that the chosen mask's IoU exceeds the heads' threshold; NaN without heads.
        chosen: the hypothesis that is expected to be best.
        own: the one that the network ranks first.
        model_gap: expected gain in IoU over the network's own pick from the largest network of the ladder; NaN without
            heads.
        prompt_gap: likewise from a dense prompt.
        task_gap: likewise from pointing out the best of the three masks.
        click: the next click that is expected to help most, its gain counted from the chosen mask; None where nobody
            looked for it.
    """

    prompt: ObjectPrompt
    kind: str
    kept: PlaneMask
    masks: np.ndarray
    shown: tuple[bool, ...]
    expected_iou: tuple[float, ...]
    estimates: tuple[float, ...]
    above: float
    chosen: int
    own: int
    model_gap: float
    prompt_gap: float
    task_gap: float
    click: Click | None = None

    @property
    def ahead(self) -> float:
        """By how much the chosen mask is expected to be better than the network's own pick, which gaps start from."""
        return self.expected_iou[self.chosen] - self.expected_iou[self.own]


def uncalibrated(decoded: Decoded, kinds: Sequence[str]) -> Assessment:
    """The network's own estimates in place of an expected IoU: no interval, no gaps, and no promise.

    Args:
        decoded: one row per prompt.
        kinds: of the prompts; they change nothing.
    """
    said = decoded.estimates.float().cpu().clamp(0, 1)
    unknown = torch.full((len(said),), torch.nan)
    own = decoded.own_pick().cpu()
    nothing, everything = torch.zeros_like(said), torch.ones_like(said)
    return Assessment(
        said,
        nothing,
        everything,
        torch.full_like(said, torch.nan),
        mixture_weights(said),
        own,
        own,
        unknown,
        unknown,
        unknown,
    )


def answer_plane(
    network: PromptableSegmenter,
    embedding: Embedding,
    prompts: Sequence[ObjectPrompt],
    assess: Assess = uncalibrated,
    advise: bool = True,
) -> tuple[ObjectAnswer, ...]:
    """Segment every object of one plane.

    Args:
        network: made the embedding.
        embedding: of the plane.
        prompts: one per object.
        assess: what is expected of the masks.
        advise: look one click ahead, which takes up to 16 more decodes per object.

    Raises:
        InputError: no prompts, or an embedding of another network.
    """
    rows = spatial_rows(prompts)
    kinds = prompt_kinds(rows)
    decoded = network.decode(embedding, rows)
    found = assess(decoded, kinds)
    masks = decoded.masks().cpu()
    shown = offer_masks(masks, found.expected_iou, found.task_gap.nan_to_num(0.0), ASK_ABOVE).shown
    shown &= found.expected_iou >= PLAUSIBLE * found.expected_iou.amax(dim=1, keepdim=True)
    clicks = None
    if advise:
        clicks = next_click(decoded, found.expected_iou.to(decoded.logits.device), network, embedding, rows)
    kept = keep_masks(decoded, found, found.chosen)
    answers = []
    for row, (prompt, kind) in enumerate(zip(prompts, kinds, strict=True)):
        numbers = _numbers(decoded, found, row)
        click = None if clicks is None else _click(clicks, row, found)
        answers.append(
            ObjectAnswer(
                prompt,
                kind,
                kept[row],
                masks[row].numpy(),
                tuple(shown[row].tolist()),
                **numbers,
                click=click,
            )
        )
    return tuple(answers)


def _numbers(decoded: Decoded, found: Assessment, row: int) -> dict[str, Any]:
    chosen = int(found.chosen[row])
    return {
        "expected_iou": tuple(found.expected_iou[row].tolist()),
        "estimates": tuple(decoded.estimates[row].float().tolist()),
        "above": float(found.above[row, chosen]),
        "chosen": chosen,
        "own": int(found.own[row]),
        "model_gap": float(found.model_gap[row]),
        "prompt_gap": float(found.prompt_gap[row]),
        "task_gap": float(found.task_gap[row]),
    }


def keep_masks(decoded: Decoded, found: Assessment, chosen: torch.Tensor) -> list[PlaneMask]:
    """The chosen hypothesis of every row, with the doubt among all three."""
    probability = torch.sigmoid(decoded.plane_logits().clamp(-32, 32)).cpu()
    mixed = bits(mixture(found.weights, probability)).clamp(0, 1)
    masks, kept = decoded.masks().cpu().numpy(), []
    for row, j in enumerate(chosen.tolist()):
        numbers = (float(values[row, j]) for values in (found.expected_iou, found.low, found.high))
        kept.append(PlaneMask(masks[row, j], _codes(probability[row, j]), _codes(mixed[row]), *numbers))
    return kept


def joined(
    kept: Sequence[PlaneMask | None], sides: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Several objects on one plane: number of the object (0 none, else position + 1), probability and entropy.

    Where masks overlap, the object of the higher probability has the pixel; the maps are the largest of all objects'.

    Args:
        kept: one per object, None where it is not on this plane.
        sides: of the plane.
    """
    labels, best = np.zeros(sides, np.uint16), np.zeros(sides, np.uint8)
    probability, entropy = np.zeros(sides, np.uint8), np.zeros(sides, np.uint8)
    for number, found in enumerate(kept, start=1):
        if found is None:
            continue
        wins = found.mask & ((labels == 0) | (found.probability > best))
        labels[wins], best[wins] = number, found.probability[wins]
        np.maximum(probability, found.probability, out=probability)
        np.maximum(entropy, found.entropy, out=entropy)
    return labels, probability, entropy


def _click(clicks, row: int, found: Assessment) -> Click:
    """The gain is counted from the chosen mask, which may be expected to be better than the network's own pick."""
    ahead = found.expected_iou[row, found.chosen[row]] - found.expected_iou[row, found.own[row]]
    r, c = clicks.coordinates[row].round().int().tolist()
    return Click(r, c, int(clicks.signs[row]), float(clicks.gain[row] - ahead))


def _codes(values: torch.Tensor) -> np.ndarray:
    return (values * 255).round().to(torch.uint8).numpy()
