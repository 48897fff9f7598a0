"""How evenly the energy of a map is spread over its singular directions.

A map is a matrix Z, rows x columns. Its squared singular values are the eigenvalues of the Gram matrix G = Z Z^T, which
is a sum over columns: it is accumulated in float64, a block of columns at a time, and no singular vector is ever
computed. The entropy of the normalised values is the logarithm of the effective rank (Roy and Vetterli, EUSIPCO 2007);
divided by ln r it is the semantic perception scale of Li et al. (arXiv 2604.10963), here S.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from scipy.linalg import blas
from torch import Tensor

from ..errors import ConfigError, InputError

Convention = Literal["energy", "amplitude"]
POWERS = {"energy": 1.0, "amplitude": 0.5}
"""Of an eigenvalue of the Gram matrix: squared singular values, as the paper says, or the singular values."""
BLOCK = 256
"""Columns turned into float64 at a time on the CPU: 128 rows of them stay in the second-level cache."""
PANEL = 127
"""Rows of a symmetric update at most: larger ones start the threads of SciPy's OpenBLAS, which `torch.set_num_threads`
does not stop and which wait by spinning; the rest of a larger product is torch's."""
BLOCK_ELEMENTS = 1 << 22
"""Float64 values of such a block on other devices, for all maps of the batch together."""


@torch.no_grad()
def row_gram(maps: Shaped[Tensor, "*batch rows columns"]) -> Float64[Tensor, "*batch rows rows"]:
    """The Gram matrix Z Z^T of the rows of every map.

    Sums run in float64 whatever the maps' type, so products of float32 values are exact; memory beyond the result does
    not grow with the columns. No gradient; automatic mixed precision does not reach it.

    Example:
        >>> row_gram(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])).tolist()
        [[4.0, 2.0], [2.0, 2.0]]
    """
    rows = maps.shape[-2]
    flat = maps.reshape(math.prod(maps.shape[:-2]), *maps.shape[-2:])
    if not flat.numel():
        found = flat.new_zeros(len(flat), rows, rows, dtype=torch.float64)
    elif flat.device.type == "cpu":
        found = torch.empty(len(flat), rows, rows, dtype=torch.float64)
        for matrix, target in zip(flat, found, strict=True):
            target.copy_(_symmetric_product(matrix))
    else:
        found = _batched_product(flat)
    return found.reshape(*maps.shape[:-2], rows, rows)


def gram(maps: Shaped[Tensor, "*batch rows columns"]) -> Float64[Tensor, "*batch side side"]:
    """As `row_gram`, or of the columns where they are fewer: side = min(rows, columns), the non-zero eigenvalues agree.

    Example:
        >>> gram(torch.ones(300, 2)).tolist()
        [[300.0, 300.0], [300.0, 300.0]]
    """
    return row_gram(maps.mT if maps.shape[-2] > maps.shape[-1] else maps)


def _symmetric_product(matrix: Shaped[Tensor, "rows columns"]) -> Float64[Tensor, "rows rows"]:
    """One triangle alone: squares on the diagonal by BLAS's symmetric update, what lies right of them by products."""
    rows, columns = matrix.shape
    side = math.ceil(rows / math.ceil(rows / PANEL))
    block = torch.zeros(rows, BLOCK, dtype=torch.float64)
    panels = block.split(side)
    views = [panel.numpy().T for panel in panels]
    squares = [np.zeros((len(panel),) * 2, order="F") for panel in panels]
    total = torch.zeros(rows, rows, dtype=torch.float64)
    for first in range(0, columns, BLOCK):
        width = min(BLOCK, columns - first)
        block[:, :width] = matrix[:, first : first + width]
        if width < BLOCK:
            block[:, width:] = 0.0  # the last block is filled up with columns that add nothing
        for n, panel in enumerate(panels):
            squares[n] = blas.dsyrk(  # type: ignore[attr-defined]
                1.0, views[n], beta=1.0, c=squares[n], trans=1, overwrite_c=1
            )
            for right in range(n + 1, len(panels)):
                corner = total[n * side : (n + 1) * side, right * side : (right + 1) * side]
                corner.addmm_(panel, panels[right].T)
    for n, square in enumerate(squares):
        total[n * side : (n + 1) * side, n * side : (n + 1) * side] = torch.from_numpy(square)
    return total.triu() + total.triu(1).T


def _batched_product(maps: Shaped[Tensor, "batch rows columns"]) -> Float64[Tensor, "batch rows rows"]:
    count, rows, columns = maps.shape
    total = torch.zeros(count, rows, rows, dtype=torch.float64, device=maps.device)
    size = max(1, BLOCK_ELEMENTS // max(1, count * rows))
    for start in range(0, columns, size):
        block = maps[..., start : start + size].double()
        total.baddbmm_(block, block.mT)
    return total


@torch.no_grad()
def spectrum(gram: Float64[Tensor, "*batch side side"]) -> Float64[Tensor, "*batch side"]:
    """Eigenvalues of Gram matrices, descending and at least 0: the squared singular values of the maps.

    What rounding cannot tell from 0, below side * 2^-52 of the largest, is 0.

    Example:
        >>> [round(v, 6) for v in spectrum(torch.tensor([[4.0, 2.0], [2.0, 2.0]], dtype=torch.float64)).tolist()]
        [5.236068, 0.763932]
    """
    values = torch.linalg.eigvalsh(gram).flip(-1)
    floor = values[..., :1] * (values.shape[-1] * torch.finfo(torch.float64).eps)
    return torch.where(values > floor, values, 0.0)


@torch.no_grad()
def spectral_entropy(
    eigenvalues: Float[Tensor, "*batch side"], convention: Convention = "energy"
) -> Float64[Tensor, "*batch"]:
    """S = - sum_j p_j ln p_j / ln r, p_j = u_j / sum_k u_k, in [0, 1]: 1 for equal values, 0 for rank one.

    Li et al., arXiv 2604.10963. u is the eigenvalue of the Gram matrix (`energy`, the paper's formula) or its root, the
    singular value (`amplitude`, the authors' released function); energy never exceeds amplitude. r counts all values
    given, zeros too. 0 ln 0 = 0, and no constant is added anywhere, so that the unit of the map does not matter.

    Args:
        eigenvalues: of the Gram matrix, at least 0.
        convention: `energy` or `amplitude`.

    Returns:
        S of every map; NaN where it is not defined: all values zero, or fewer than two.

    Raises:
        ConfigError: another convention.

    Example:
        >>> round(spectral_entropy(torch.tensor([16.0, 9.0])).item(), 6)  # singular values 4 and 3
        0.942683
        >>> round(spectral_entropy(torch.tensor([16.0, 9.0]), "amplitude").item(), 6)
        0.985228
    """
    if convention not in POWERS:
        raise ConfigError(f"convention={convention!r}, expected 'energy' or 'amplitude'.")
    side = eigenvalues.shape[-1]
    values = eigenvalues.double() ** POWERS[convention]
    total = values.sum(-1)
    if side < 2:
        return torch.full_like(total, torch.nan)
    share = values / torch.where(total > 0, total, torch.nan).unsqueeze(-1)
    return (torch.special.entr(share).sum(-1) / math.log(side)).clamp(0.0, 1.0)


@torch.no_grad()
def logit_scale(
    logits: Float[Tensor, "batch classes *grid"], chunk: int = 16
) -> Float64[Tensor, "batch classes"]:
    """S (energy) of every class map: rows are the first grid axis, columns all further ones.

    No gradient, and float64 under automatic mixed precision. Where S is not defined it is 0: an empty map, a side of
    one voxel, or values that are not finite (the loss of such a step is not finite either, and says so).

    Args:
        logits: with at least two grid axes.
        chunk: class maps at a time, which bounds memory on a GPU.

    Raises:
        InputError: fewer than two grid axes.

    Example:
        >>> logit_scale(torch.eye(4).reshape(1, 1, 4, 4)).tolist()
        [[1.0]]
    """
    if logits.dim() < 4:
        raise InputError(
            f"Logits of shape {tuple(logits.shape)}, expected (batch, classes, *grid) with two grid axes or more."
        )
    maps = logits.flatten(0, 1).flatten(2)
    found = []
    for part in maps.split(chunk):
        matrices = gram(part)
        finite = matrices.isfinite().all(-1).all(-1)
        matrices = torch.where(finite[:, None, None], matrices, 0.0)
        found.append(spectral_entropy(spectrum(matrices)).nan_to_num(0.0))
    return torch.cat(found).reshape(logits.shape[:2])
