"""The grid on which a promptable network draws its masks: what part of it shows the plane, and where its cells lie."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...segmenters.promptable import Frame


def shown_cells(
    maps: Float[Tensor, "*any rows columns"], frame: Frame
) -> Float[Tensor, "*any shown_rows shown_columns"]:
    """The part of maps of the whole grid that shows the plane, without padding.

    Example:
        >>> shown_cells(torch.zeros(3, 256, 256), Frame((288, 384), 1024)).shape
        torch.Size([3, 192, 256])
    """
    height, width = (
        -(-shown * cells // frame.side) for shown, cells in zip(frame.shown, maps.shape[-2:], strict=True)
    )
    return maps[..., :height, :width]


def plane_pixels(
    cells: Float[Tensor, "*any 2"], frame: Frame, grid: tuple[int, int]
) -> Float[Tensor, "*any 2"]:
    """The pixel (row, column) of the plane, whole numbers, in which the centre of a cell lies.

    Args:
        cells: (row, column) of the whole grid.
        frame: of the plane.
        grid: rows and columns of the whole grid, padding included.

    Example:
        >>> plane_pixels(torch.tensor([[0.0, 0.0], [95.5, 127.5]]), Frame((288, 384), 1024), (256, 256)).tolist()
        [[0.0, 0.0], [143.0, 191.0]]
    """
    stride = cells.new_tensor([frame.side / sides for sides in grid])
    place = (cells + 0.5) * stride / cells.new_tensor(frame.scale)
    # The pixel i reaches from i to i + 1, its centre being at i + 1/2 here; a hair less keeps middles stable.
    return (place - 1e-4).floor().clamp(min=0).minimum(cells.new_tensor(frame.sides) - 1)


def pairwise_iou(
    first: Bool[Tensor, "*any n rows columns"], second: Bool[Tensor, "*any m rows columns"]
) -> Float[Tensor, "*any n m"]:
    """IoU of each of some masks with each of others; 1 where both are empty.

    Example:
        >>> masks = torch.tensor([[[1, 1, 0]], [[1, 0, 0]]]).bool()
        >>> pairwise_iou(masks, masks).tolist()
        [[1.0, 0.5], [0.5, 1.0]]
    """
    one, other = first.flatten(-2).float(), second.flatten(-2).float()
    both = one @ other.transpose(-1, -2)
    either = one.sum(dim=-1)[..., :, None] + other.sum(dim=-1)[..., None, :] - both
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
