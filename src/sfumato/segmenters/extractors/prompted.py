"""Class-wise maps of a promptable network, from prompts that know no label.

Two policies: `grid` asks at the same points of every slice, and every point is a class of its own; `pred_box` asks
with the box around each class that another segmenter predicts. The policy is part of a score's identity.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import ConfigError, InputError
from ...types import SpatialPrompt
from ..inputs import content
from ..promptable import Embedding, PromptableSegmenter


def grid_points(sides: tuple[int, int], per_side: int = 3) -> SpatialPrompt:
    """Foreground points at the centres of `per_side` x `per_side` equal fields, one prompt each, row by row.

    Example:
        >>> grid_points((8, 12), 2).coordinates[:, 0].tolist()
        [[1.5, 2.5], [1.5, 8.5], [5.5, 2.5], [5.5, 8.5]]
    """
    if per_side < 1:
        raise ConfigError(f"per_side={per_side}, expected at least 1.")
    rows, columns = ((torch.arange(per_side) + 0.5) * n / per_side - 0.5 for n in sides)
    points = torch.cartesian_prod(rows, columns)[:, None]
    return SpatialPrompt(points, torch.ones(len(points), 1, dtype=torch.long))


def predicted_box(
    prediction: Int[Tensor, "height width"], class_index: int, margin: int = 2
) -> SpatialPrompt | None:
    """The box around a class in a predicted label map, `margin` pixels wider on each side; None where it is absent.

    Example:
        >>> label = torch.zeros(10, 10, dtype=torch.long)
        >>> label[4:6, 5] = 1
        >>> predicted_box(label, 1, margin=1).corners.tolist(), predicted_box(label, 2)
        ([[[3.0, 4.0], [6.0, 6.0]]], None)
    """
    where = torch.nonzero(prediction == class_index)
    if not len(where):
        return None
    last = torch.tensor(prediction.shape) - 1
    low = (where.amin(dim=0) - margin).clamp(min=0)
    high = torch.minimum(where.amax(dim=0) + margin, last)
    return SpatialPrompt.of_boxes(torch.stack([low, high])[None].float())


def prompted_maps(
    model: PromptableSegmenter,
    slices: Float[Tensor, "slices channels height width"],
    prediction: Int[Tensor, "slices height width"] | None = None,
    classes: int = 0,
    per_side: int = 3,
) -> tuple[Float[Tensor, "classes slices rows columns"], Bool[Tensor, "classes slices"]]:
    """Mask logits per class and slice, and where they are there.

    Args:
        model: a promptable network, such as `MiniSam`.
        slices: intensities in [0, 1].
        prediction: labels of another segmenter, policy `pred_box`; None asks at a grid of points instead.
        classes: of the prediction, background included; classes 1 and up are asked for.
        per_side: points per side of the grid.

    Returns:
        The maps, and `present`: False where the prediction has no such class. There the map was never asked for;
        it holds zeros that mean nothing.

    Raises:
        InputError: a prediction of another shape than the slices.
    """
    sides = (slices.shape[2], slices.shape[3])
    if prediction is not None and (classes < 2 or prediction.shape != (len(slices), *sides)):
        raise InputError(
            f"A prediction of shape {tuple(prediction.shape)} and {classes} classes, expected "
            f"{(len(slices), *sides)} and at least 2."
        )
    grid = grid_points(sides, per_side)
    rows: list[list[Tensor | None]] = []
    for i in range(len(slices)):
        embedding = model.encode(slices[i])
        if prediction is None:
            rows.append(list(_answers(model, embedding, grid)))
            continue
        boxes = [predicted_box(prediction[i], c) for c in range(1, classes)]
        rows.append([None if box is None else _answers(model, embedding, box)[0] for box in boxes])
    return _stacked(rows)


def _answers(model: PromptableSegmenter, embedding: Embedding, prompts: SpatialPrompt) -> Tensor:
    """Logits of the network's own pick per prompt, on the part of its mask grid that shows the slice."""
    decoded = model.decode(embedding, prompts)
    return content(decoded.own_logits()[None], decoded.frame.shown, (decoded.frame.side,) * 2)[0]


def _stacked(rows: list[list[Tensor | None]]) -> tuple[Tensor, Tensor]:
    present = torch.tensor([[found is not None for found in row] for row in rows]).T
    some = next((found for row in rows for found in row if found is not None), torch.zeros(1, 1))
    blank = torch.zeros_like(some)
    maps = torch.stack([torch.stack([blank if f is None else f for f in row]) for row in rows], dim=1)
    return maps, present
