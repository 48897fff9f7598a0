"""Names of the heads, and how their targets become numbers that a sigmoid can reach (paper, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

MODEL_GAP, PROMPT_GAP, TASK_GAP = GAPS = ("model_gap", "prompt_gap", "task_gap")
MASK_IOU = "iou_unsupervised"
"""IoU of the very mask whose token is read; on the network's own pick it is the paper's IoU_SAM."""
DENSE_IOU = "iou_dense_prompt"


def rung_head(rung: str) -> str:
    """Name of the head that tells what a network of the ladder reaches.

    Example:
        >>> rung_head("large")
        'iou_large'
    """
    return f"iou_{rung}"


def head_names(ladder: Sequence[str]) -> tuple[str, ...]:
    """Names of all heads for a ladder of networks, cheapest first.

    Example:
        >>> head_names(("tiny", "large"))
        ('iou_tiny', 'iou_large', 'iou_dense_prompt', 'iou_unsupervised', 'model_gap', 'prompt_gap', 'task_gap')
    """
    return (*(rung_head(rung) for rung in ladder), DENSE_IOU, MASK_IOU, *GAPS)


def encode(
    values: Float[Tensor, "*rows heads"], names: Sequence[str], gap_range: float
) -> Float[Tensor, "*rows heads"]:
    """Targets in [0, 1]: IoUs as they are, gaps from [-gap_range, gap_range]; what lies outside saturates.

    Args:
        values: IoUs and gaps; NaN stays NaN.
        names: of the heads.
        gap_range: largest gap that can be told; 0.5 in the paper.

    Example:
        >>> import torch
        >>> encode(torch.tensor([[0.7, -0.7], [1.0, 0.3]]), ("iou_tiny", "task_gap"), 0.5).tolist()
        [[0.699999988079071, 0.0], [1.0, 0.800000011920929]]
    """
    shift, scale = _affine(names, gap_range, values)
    return ((values + shift) / scale).clamp(0, 1)


def decode(
    coded: Float[Tensor, "*rows heads"], names: Sequence[str], gap_range: float
) -> Float[Tensor, "*rows heads"]:
    """The inverse of `encode` within its range."""
    shift, scale = _affine(names, gap_range, coded)
    return coded * scale - shift


def _affine(names: Sequence[str], gap_range: float, like: Tensor) -> tuple[Tensor, Tensor]:
    shift = like.new_tensor([gap_range if name in GAPS else 0.0 for name in names])
    scale = like.new_tensor([2 * gap_range if name in GAPS else 1.0 for name in names])
    return shift, scale
