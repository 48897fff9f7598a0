"""What heads are trained on: IoUs and the three gaps (paper, section 4), one value per hypothesis and head.

A head that speaks about the prompt as a whole learns from one hypothesis per prompt: the network's own pick. The
paper's data hold the truly best hypothesis instead; which one that is cannot be known where a mask is wanted, and the
task gap can be read off it.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .coding import DENSE_IOU, MASK_IOU, MODEL_GAP, PROMPT_GAP, TASK_GAP, rung_head
from .records import GapRecords


def prompt_targets(
    records: GapRecords, ladder: tuple[str, ...], choice: Literal["own", "best"]
) -> dict[str, Float[Tensor, "rows"]]:
    """Targets that belong to a prompt as a whole, by head.

    Args:
        records: with their truth.
        ladder: names of the networks, cheapest first.
        choice: `best` as published: IoUs are those of the truly best hypothesis, and the model gap is that between
            the last and the first network, whichever made the record. `own`: those of the hypotheses that the
            networks rank first, which is what a user gets; the model gap is what the last network gains over the
            record's own one. The task gap is the same in both: best hypothesis minus own pick, never negative.

    Returns:
        NaN where a network of the ladder was not asked.
    """
    rungs, dense = (
        (records.rung_best, records.dense_best) if choice == "best" else (records.rung_own, records.dense_own)
    )
    best, own = records.iou.amax(dim=1), records.of(records.own())
    reached = best if choice == "best" else own
    cheapest = rungs[:, 0] if choice == "best" else own
    found = {rung_head(name): rungs[:, i] for i, name in enumerate(ladder)}
    return found | {
        DENSE_IOU: dense,
        MODEL_GAP: rungs[:, -1] - cheapest,
        PROMPT_GAP: dense - reached,
        TASK_GAP: best - own,
    }


def head_targets(
    records: GapRecords,
    names: tuple[str, ...],
    by_prompt: dict[str, Float[Tensor, "rows"]],
    read: Int[Tensor, "rows"] | None = None,
) -> Float[Tensor, "rows hypotheses heads"]:
    """Targets per hypothesis; NaN where a head learns nothing from it.

    Args:
        records: with their truth.
        names: of the heads, in their order.
        by_prompt: from `prompt_targets`.
        read: which hypothesis of each row the prompt's targets belong to; None takes the network's own pick.
    """
    read = records.own() if read is None else read
    found = torch.full((*records.iou.shape, len(names)), float("nan"))
    rows = torch.arange(len(records))
    for i, name in enumerate(names):
        if name == MASK_IOU:
            found[:, :, i] = records.iou
        else:
            found[rows, read, i] = by_prompt[name].float()
    return found
