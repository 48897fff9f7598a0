"""The streamed state of one class map: everything its scale needs, added up over blocks of columns in any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float64, Shaped
from torch import Tensor

from ...errors import ConfigError, InputError
from ...measures.spectrum import Convention, row_gram, spectral_entropy, spectrum

Centre = Literal["none", "row", "global"]
CENTRES = "none", "row", "global"


@dataclass(frozen=True)
class GramState:
    """What the scale of one class map needs of any part of its columns; the state of a whole is the sum of its parts.

    Args:
        gram: Z Z^T.
        sums: of each row.
        low: smallest value of each row; NaN where the row holds a value that is not finite.
        high: largest value of each row, likewise.
        columns: so far.
    """

    gram: Float64[Tensor, "rows rows"]
    sums: Float64[Tensor, "rows"]
    low: Float64[Tensor, "rows"]
    high: Float64[Tensor, "rows"]
    columns: int

    @classmethod
    def zeros(cls, rows: int) -> GramState:
        """Of no column: the identity of `+`."""
        row = torch.zeros(rows, dtype=torch.float64)
        return cls(torch.zeros(rows, rows, dtype=torch.float64), row, row + math.inf, row - math.inf, 0)

    @classmethod
    @torch.no_grad()
    def of(cls, block: Shaped[Tensor, "rows columns"]) -> GramState:
        """Of a block of columns.

        Example:
            >>> GramState.of(torch.tensor([[1.0, 2.0], [0.0, 1.0]])).gram.tolist()
            [[5.0, 2.0], [2.0, 1.0]]
        """
        rows, columns = block.shape
        if columns == 0:
            return cls.zeros(rows)
        low, high = block.double().aminmax(dim=1)
        finite = (low.isfinite() & high.isfinite()).cpu()
        sums = block.sum(dim=1, dtype=torch.float64).cpu()
        nan = torch.full_like(sums, torch.nan)
        low, high = (torch.where(finite, end.cpu(), nan) for end in (low, high))
        return cls(row_gram(block).cpu(), sums, low, high, columns)

    def add(self, block: Shaped[Tensor, "rows columns"]) -> GramState:
        """With further columns."""
        return self + GramState.of(block)

    def __add__(self, other: GramState) -> GramState:
        if len(self.sums) != len(other.sums):
            raise InputError(
                f"Gram states of {len(self.sums)} and {len(other.sums)} rows, expected parts of the same rows."
            )
        return GramState(
            self.gram + other.gram,
            self.sums + other.sums,
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
            self.columns + other.columns,
        )

    def rows(self, present: Bool[Tensor, "rows"]) -> GramState:
        """Of some rows alone, as if the others had never been there."""
        at = present.cpu().nonzero()[:, 0]
        return replace(
            self,
            gram=self.gram[at][:, at],
            sums=self.sums[at],
            low=self.low[at],
            high=self.high[at],
        )

    def centred(self, centre: Centre = "none") -> Float64[Tensor, "rows rows"]:
        """The Gram matrix of Z, of Z minus the mean of each row (`row`), or of Z minus its mean (`global`).

        From one pass: G - s s^T / N with the rows' sums s over N columns. What rounding leaves of a map that
        centring takes away altogether is 0.

        Raises:
            ConfigError: another centring.
        """
        if centre not in CENTRES:
            raise ConfigError(f"centre={centre!r}, expected one of {', '.join(CENTRES)}.")
        if centre == "none" or not self.columns:
            return self.gram
        means = self.sums / self.columns
        taken = means if centre == "row" else means.mean().expand_as(means)
        cross = torch.outer(taken, self.sums)
        found = self.gram - cross - cross.T + self.columns * torch.outer(taken, taken)
        tiny = 8 * len(means) * torch.finfo(torch.float64).eps * self.gram.trace()
        return torch.where(found.trace() > tiny, found, 0.0)

    def status(self) -> str:
        """`nonfinite`, `empty` (no value but 0), `single` (fewer than two rows or columns), `constant`, or `ok`."""
        if self.low.isnan().any():
            return "nonfinite"
        if not len(self.sums) or not self.columns or not self.gram.any():
            return "empty"
        if min(len(self.sums), self.columns) < 2:
            return "single"
        return "constant" if self.low.min() == self.high.max() else "ok"


def scale_interval(
    blocks: Sequence[GramState],
    convention: Convention = "energy",
    draws: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of S over spatial blocks: how much it hangs on which pixels were there.

    Every draw takes as many blocks as there are, with repetition, and computes S of the sum of their Gram matrices;
    nothing is read again. Blocks of neighbouring pixels keep the dependence between them within a draw.

    Args:
        blocks: states of disjoint blocks of columns, of similar width; two or more, 32 say.
        convention: see `sfumato.measures.spectrum.spectral_entropy`.
        draws: of the bootstrap.
        level: share of the draws between the two ends.
        seed: of the draws.

    Raises:
        InputError: fewer than two blocks.
    """
    if len(blocks) < 2:
        raise InputError(f"{len(blocks)} blocks, expected at least two to draw from.")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(blocks), (draws, len(blocks)), generator=generator)
    weights = torch.nn.functional.one_hot(chosen, len(blocks)).sum(1).double()
    grams = torch.stack([b.gram for b in blocks])
    found = [spectral_entropy(spectrum(torch.tensordot(w, grams, dims=1)), convention) for w in weights]
    tail = (1 - level) / 2
    low, high = torch.stack(found).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
