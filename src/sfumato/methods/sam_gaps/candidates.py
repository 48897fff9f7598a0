"""Where a click might help: middles of the regions in which a mask may be wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .belief import Belief

LEAST_DOUBT = 0.1
"""Cells whose probability of being wrong is below this are left alone."""
APART = 2
"""Cells between two candidates at least, along either axis."""


@dataclass(frozen=True)
class Candidates:
    """Places to click, the most promising first; at least one.

    Args:
        cells: (row, column) on the mask grid.
        regions: what each click would settle if it settled its region and nothing else.
        doubt: sum over the region of each cell's probability of being wrong.
    """

    cells: Int[Tensor, "candidates 2"]
    regions: Bool[Tensor, "candidates rows columns"]
    doubt: Float[Tensor, "candidates"]


def find_candidates(belief: Belief, current: Bool[Tensor, "rows columns"], most: int) -> Candidates:
    """Middles of the parts in which the current mask differs from a mask that may be the truth, or is doubtful.

    A part is a connected region of cells that such a mask has and the current one lacks, or the other way round, and
    of cells that are wrong with a probability of at least 0.1. The middle is the cell furthest from the part's edge.
    Parts of most doubt come first; of two middles that lie side by side, the later one is dropped. Where nothing is in
    doubt, the only place is the middle of the current mask, or the likeliest cell if that is empty, and its region is
    empty.

    Args:
        belief: what may be the truth.
        current: the mask that is offered now.
        most: candidates.
    """
    doubt = _doubt(belief, current)
    wholes = [*(belief.masks & ~current), *(~belief.masks & current), doubt >= LEAST_DOUBT]
    parts = [part for whole in wholes for part in _connected(whole.cpu().numpy())]
    sums = [float(doubt.cpu().numpy()[part].sum()) for part in parts]
    cells: list[tuple[int, int]] = []
    kept: list[int] = []
    for i in np.argsort(np.negative(sums), kind="stable"):
        if len(kept) == most or sums[i] <= 0:
            break
        cell = middle_cell(parts[i])
        if all(max(abs(cell[0] - r), abs(cell[1] - c)) >= APART for r, c in cells):
            cells.append(cell)
            kept.append(int(i))
    if not kept:
        return _settled(belief, current)
    return Candidates(
        torch.tensor(cells, device=current.device),
        torch.from_numpy(np.stack([parts[i] for i in kept])).to(current.device),
        torch.tensor([sums[i] for i in kept], device=current.device),
    )


def middle_cell(mask: Bool[np.ndarray, "rows columns"]) -> tuple[int, int]:
    """The cell of a mask that lies furthest from cells outside and from the rim of the grid; the first of equals.

    Example:
        >>> middle_cell(np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 1]], bool))
        (1, 1)
    """
    from scipy import ndimage

    depth = np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(row), int(column)


def largest_part(mask: Bool[np.ndarray, "rows columns"]) -> Bool[np.ndarray, "rows columns"]:
    """The largest connected part of a mask, the first of equals; empty if the mask is.

    Example:
        >>> largest_part(np.array([[1, 0, 1, 1]], bool)).tolist()
        [[False, False, True, True]]
    """
    return max(_connected(mask), key=lambda part: int(part.sum()), default=np.zeros_like(mask))


def _settled(belief: Belief, current: Tensor) -> Candidates:
    likeliest = belief.foreground().cpu().numpy()
    whole = current.cpu().numpy() if current.any() else likeliest == likeliest.max()
    cells = torch.tensor([middle_cell(whole)], device=current.device)
    return Candidates(cells, torch.zeros_like(current)[None], torch.zeros(1, device=current.device))


def _doubt(belief: Belief, current: Tensor) -> Float[Tensor, "rows columns"]:
    """Probability that a cell of the current mask is wrong."""
    foreground = belief.foreground()
    return torch.where(current, 1 - foreground, foreground).clamp(min=0)


def _connected(mask: np.ndarray) -> list[np.ndarray]:
    """The parts of a mask that hang together along rows or columns."""
    from scipy import ndimage

    labels, count = ndimage.label(mask)  # type: ignore[misc]
    return [labels == i for i in range(1, count + 1)]
