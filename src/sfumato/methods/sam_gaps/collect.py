"""From prompts and labels to records: decode on every rung of the ladder, and measure how good each mask truly is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import InputError
from ...segmenters.promptable import Decoded, Embedding, PromptableSegmenter
from ...types import SpatialPrompt
from .records import PROMPT_KINDS, GapRecords, HypothesisInputs
from .shape import shape_features


@dataclass(frozen=True)
class AskedObject:
    """One object of a plane and what is asked about it.

    Args:
        name: of the object, unique in its data set.
        mask: where it is.
        prompts: one row per question.
        kinds: of the prompts, names in `PROMPT_KINDS`.
        dense: per question, the far better prompt that the prompt gap is measured against.
    """

    name: str
    mask: Bool[Tensor, "height width"]
    prompts: SpatialPrompt
    kinds: tuple[str, ...]
    dense: SpatialPrompt

    def __post_init__(self) -> None:
        rows = {len(self.prompts), len(self.kinds), len(self.dense)}
        if len(rows) != 1 or not len(self.kinds):
            raise InputError(
                f"{self.name}: {len(self.prompts)} prompts, {len(self.kinds)} kinds and {len(self.dense)} dense "
                "prompts, expected as many of each, at least one."
            )
        if not self.mask.any():
            raise InputError(f"{self.name}: an empty mask, expected an object of at least one pixel.")


References = Callable[
    [AskedObject, Sequence[Embedding], Sequence[Decoded], int], Mapping[str, Float[Tensor, "rows"]]
]
"""(object, embeddings and answers on every rung, the rung in question) -> Monte-Carlo references of its rows."""


def describe(decoded: Decoded, kinds: str | Sequence[str], rung: int) -> HypothesisInputs:
    """What heads see of a decode.

    Args:
        decoded: one row per prompt.
        kinds: of the prompts, one for all or one per row.
        rung: of the network on its ladder.

    Raises:
        InputError: a kind that is not in `PROMPT_KINDS`, or another number of them.
    """
    rows = len(decoded.estimates)
    names = [kinds] * rows if isinstance(kinds, str) else list(kinds)
    unknown = set(names) - set(PROMPT_KINDS)
    if unknown or len(names) != rows:
        raise InputError(
            f"{len(names)} kinds of prompts for {rows} prompts, among them {sorted(unknown) or 'no unknown ones'}; "
            f"expected one per prompt out of {', '.join(PROMPT_KINDS)}."
        )
    kind = torch.tensor([PROMPT_KINDS.index(name) for name in names])
    return HypothesisInputs(
        decoded.iou_token.float().cpu(),
        decoded.mask_tokens.float().cpu(),
        decoded.estimates.float().cpu(),
        shape_features(decoded).cpu(),
        kind,
        torch.full((rows,), rung),
    )


def true_iou(decoded: Decoded, mask: Bool[Tensor, "height width"]) -> Float[Tensor, "prompts hypotheses"]:
    """IoU of every hypothesis with one object, at the plane's own resolution; 0 for an empty hypothesis."""
    found = decoded.masks().flatten(2).cpu()
    truth = mask.flatten().cpu()
    both = (found & truth).sum(dim=2)
    return both / (found | truth).sum(dim=2)


def measure(
    ladder: Sequence[PromptableSegmenter],
    embeddings: Sequence[Embedding],
    asked: AskedObject,
    group: str,
    data_set: str,
    references: References | None = None,
) -> GapRecords:
    """Records of one object: every prompt on every rung.

    Args:
        ladder: networks, cheapest first.
        embeddings: of the plane, one per network.
        asked: the object, its prompts and its dense prompts.
        group: picture, patient or video that the plane belongs to.
        data_set: its name.
        references: computes Monte-Carlo references; None leaves them out.

    Raises:
        InputError: another number of embeddings than networks.
    """
    answers = [n.decode(e, asked.prompts) for n, e in zip(ladder, embeddings, strict=True)]
    dense = [n.decode(e, asked.dense) for n, e in zip(ladder, embeddings, strict=True)]
    rung_iou = [true_iou(a, asked.mask) for a in answers]
    best = torch.stack([iou.amax(dim=1) for iou in rung_iou], dim=1)
    own = torch.stack([_picked(i, a) for i, a in zip(rung_iou, answers, strict=True)], dim=1)
    rows = len(asked.kinds)
    parts = []
    for rung, answer in enumerate(answers):
        dense_iou = true_iou(dense[rung], asked.mask)
        parts.append(
            GapRecords(
                describe(answer, asked.kinds, rung),
                rung_iou[rung],
                best,
                own,
                dense_iou.amax(dim=1),
                _picked(dense_iou, dense[rung]),
                {} if references is None else dict(references(asked, embeddings, answers, rung)),
                (asked.name,) * rows,
                (group,) * rows,
                (data_set,) * rows,
            )
        )
    return GapRecords.cat(parts)


def _picked(iou: Float[Tensor, "prompts hypotheses"], decoded: Decoded) -> Float[Tensor, "prompts"]:
    pick: Int[Tensor, "prompts"] = decoded.own_pick().cpu()
    return iou.gather(1, pick[:, None])[:, 0]
