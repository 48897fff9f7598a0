"""Which of the three masks is meant: return one, or show the alternatives where that is worth a user's decision."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import InputError
from .mask_grid import pairwise_iou

SAME = 0.9
"""Masks with this IoU or more are one mask for a person who chooses."""


@dataclass(frozen=True)
class Offer:
    """What to show for each prompt.

    Args:
        chosen: the mask that is expected to be best.
        ask: whether the alternatives are worth showing.
        shown: distinct masks, the chosen one among them; only that one where `ask` is false.
        order: hypotheses in descending order of expected IoU.
    """

    chosen: Int[Tensor, "prompts"]
    ask: Bool[Tensor, "prompts"]
    shown: Bool[Tensor, "prompts hypotheses"]
    order: Int[Tensor, "prompts hypotheses"]


def offer_masks(
    masks: Bool[Tensor, "prompts hypotheses rows columns"],
    expected_iou: Float[Tensor, "prompts hypotheses"],
    task_gap: Float[Tensor, "prompts"],
    threshold: float,
    same: float = SAME,
) -> Offer:
    """Choose by expected IoU; show the distinct alternatives where the task gap is above a threshold (section 9.1).

    Args:
        masks: on any grid, such as `Decoded.masks()` or logits above 0.
        expected_iou: calibrated, of every hypothesis.
        task_gap: expected gain in IoU if the best mask were pointed out.
        threshold: largest task gap at which nobody is asked; see `threshold_for_share` for one that fits a budget.
        same: masks with this IoU or more are not distinct.

    Raises:
        InputError: other numbers of prompts or hypotheses.

    Example:
        >>> masks = torch.tensor([[[[1, 1, 1, 1]], [[1, 1, 0, 0]], [[1, 1, 1, 1]]]]).bool()
        >>> offer = offer_masks(masks, torch.tensor([[0.7, 0.8, 0.6]]), torch.tensor([0.2]), 0.1)
        >>> offer.chosen.tolist(), offer.ask.tolist(), offer.shown.tolist()
        ([1], [True], [[True, True, False]])
    """
    if masks.shape[:2] != expected_iou.shape or len(task_gap) != len(masks):
        raise InputError(
            f"Masks of {tuple(masks.shape[:2])} prompts and hypotheses, expected IoUs of "
            f"{tuple(expected_iou.shape)} and {len(task_gap)} task gaps, expected them for the same."
        )
    order = expected_iou.argsort(dim=1, descending=True, stable=True)
    distinct = distinct_masks(masks, order, same)
    ask = (task_gap > threshold).to(distinct.device) & (distinct.sum(dim=1) > 1)
    alone = torch.zeros_like(distinct).scatter(1, order[:, :1].to(distinct.device), True)
    return Offer(order[:, 0], ask, torch.where(ask[:, None], distinct, alone), order)


def distinct_masks(
    masks: Bool[Tensor, "prompts hypotheses rows columns"],
    order: Int[Tensor, "prompts hypotheses"],
    same: float = SAME,
) -> Bool[Tensor, "prompts hypotheses"]:
    """In the given order, a mask is kept if its IoU with every kept one is below `same`; empty ones only if first."""
    overlap = pairwise_iou(masks, masks)
    empty = ~masks.flatten(2).any(dim=2)
    kept = torch.zeros(masks.shape[:2], dtype=torch.bool, device=masks.device)
    rows = torch.arange(len(masks), device=masks.device)
    for place, now in enumerate(order.to(masks.device).unbind(1)):
        like_another = ((overlap[rows, now] >= same) & kept).any(dim=1)
        kept[rows, now] = ~like_another & (~empty[rows, now] if place else True)
    return kept
