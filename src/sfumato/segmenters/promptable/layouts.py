"""Prompts that look alike are decoded together, so that filling up a row with no clicks never changes an answer.

A network adds one token per click, also for clicks that are none, and its tokens attend to one another. Rows are
therefore grouped by their layout (how many clicks, a box or none, a mask or none) and put back in order afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from ...errors import InputError
from ...types import SpatialPrompt
from .protocol import Decoded, Embedding, PromptableCard

PROMPTS_AT_ONCE = 64
"""Rows that are decoded together at most; a decoder keeps its image cells once per row."""


def check_prompts(prompts: SpatialPrompt, embedding: Embedding, card: PromptableCard) -> None:
    """Refuse what no network can decode.

    Raises:
        InputError: an embedding of another network, no rows, other signs than 1, 0 and -1, clicks or corners that
            are not finite, or a row with neither click, box nor mask.
    """
    if embedding.network != card.key:
        raise InputError(
            f"An embedding of {embedding.network}, expected one of {card.key}; encode the plane again."
        )
    if len(prompts) == 0:
        raise InputError("No prompts, expected at least one row.")
    signs = set(prompts.signs.flatten().tolist())
    if not signs <= {1, 0, -1}:
        raise InputError(
            f"Signs of clicks {sorted(signs)}, expected 1 (foreground), 0 (background) or -1 (no click)."
        )
    clicked = prompts.signs >= 0
    if not prompts.coordinates[clicked].isfinite().all():
        raise InputError(
            "Clicks that are not finite, expected (row, column) in pixels; use sign -1 for no click."
        )
    if prompts.corners is not None and (prompts.corners.isfinite().flatten(1).sum(dim=1) % 4 != 0).any():
        raise InputError(
            "Boxes with some finite corners, expected two corners of finite numbers or NaN throughout."
        )
    empty = ~(clicked.any(dim=1) | with_box(prompts) | with_mask(prompts))
    if empty.any():
        row = int(empty.nonzero()[0])
        raise InputError(f"Prompt {row} has neither click, box nor mask, expected at least one of them.")


def with_box(prompts: SpatialPrompt) -> Bool[Tensor, "prompts"]:
    """Which rows have a box."""
    if prompts.corners is None:
        return torch.zeros(len(prompts), dtype=torch.bool, device=prompts.signs.device)
    return prompts.corners.isfinite().flatten(1).all(dim=1)


def with_mask(prompts: SpatialPrompt) -> Bool[Tensor, "prompts"]:
    """Which rows have a mask."""
    if prompts.mask is None:
        return torch.zeros(len(prompts), dtype=torch.bool, device=prompts.signs.device)
    return prompts.mask.isfinite().flatten(1).all(dim=1)


def by_layout(prompts: SpatialPrompt, at_most: int = PROMPTS_AT_ONCE) -> list[tuple[Tensor, SpatialPrompt]]:
    """Rows of equal layout, at most so many together: their numbers, and they themselves with nothing filled up.

    Example:
        >>> mixed = SpatialPrompt.of_points([[(3, 4, 1), (9, 9, 0)], [(5, 5, 1)], [(6, 6, 1)]])
        >>> [(rows.tolist(), part.signs.tolist()) for rows, part in by_layout(mixed)]
        [([1, 2], [[1], [1]]), ([0], [[1, 0]])]
    """
    clicks, boxes, masks = (prompts.signs >= 0).sum(dim=1), with_box(prompts), with_mask(prompts)
    code = clicks * 4 + boxes * 2 + masks
    found = []
    for value in code.unique().tolist():
        for rows in (code == value).nonzero()[:, 0].split(at_most):
            found.append((rows, _compact(prompts[rows], value // 4, bool(value & 2), bool(value & 1))))
    return found


def _compact(part: SpatialPrompt, clicks: int, box: bool, mask: bool) -> SpatialPrompt:
    # A stable sort brings the clicks to the front in their own order.
    order = (part.signs < 0).long().argsort(dim=1, stable=True)[:, :clicks]
    coordinates = part.coordinates.gather(1, order[..., None].expand(-1, -1, 2))
    corners = _ordered(part.corners) if box and part.corners is not None else None
    return SpatialPrompt(coordinates, part.signs.gather(1, order), corners, part.mask if mask else None)


def _ordered(corners: Tensor) -> Tensor:
    """Upper left corner first, whichever two opposite ones came."""
    return torch.stack([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def decode_by_layout(
    prompts: SpatialPrompt, decode: Callable[[SpatialPrompt], Decoded], at_most: int = PROMPTS_AT_ONCE
) -> Decoded:
    """Decodes rows of equal layout together and returns all in the order in which they came.

    Args:
        prompts: checked, see `check_prompts`.
        decode: answers rows of one layout, without clicks of sign -1 or corners or masks of NaN.
        at_most: rows that are decoded together.
    """
    parts = [(rows, decode(part)) for rows, part in by_layout(prompts, at_most)]
    order = torch.cat([rows for rows, _ in parts]).argsort()

    def joined(name: str) -> Tensor:
        whole = torch.cat([getattr(decoded, name) for _, decoded in parts])
        return whole[order.to(whole.device)]

    def joined_if_given(name: str) -> Tensor | None:
        return None if getattr(parts[0][1], name) is None else joined(name)

    return Decoded(
        joined("logits"),
        joined("estimates"),
        joined("iou_token"),
        joined("mask_tokens"),
        parts[0][1].frame,
        joined_if_given("object_score"),
        joined_if_given("single_logits"),
        joined_if_given("single_estimates"),
    )
