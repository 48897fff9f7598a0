"""A 3-wide convolution of a linearly upsampled map, with all channel mixing on the coarse grid.

Upsampling and channel mixing commute, so y = sum over offsets of shift(upsample(K_offset x)) needs the products
K_offset x only where x lives. What is left is a sum of weighted neighbours per channel, done axis by axis: along an
axis that is upsampled by f, fine voxel f j + phase reads the coarse voxels j - 1, j and j + 1. Along the first axis
that sum is folded into the kernel instead, which makes the fine planes independent of each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def whole_factors(coarse: Sequence[int], fine: Sequence[int]) -> tuple[int, ...] | None:
    """By how much each axis is upsampled, or None where that is no whole number.

    Example:
        >>> whole_factors([4, 8], [8, 8]), whole_factors([4, 5], [8, 9])
        ((2, 1), None)
    """
    if any(n % c for c, n in zip(coarse, fine, strict=True)):
        return None
    return tuple(n // c for c, n in zip(coarse, fine, strict=True))


def neighbour_weights(factor: int, phase: int) -> dict[int, float]:
    """Which coarse neighbours (offsets from j) fine voxel `factor * j + phase` is interpolated from, half-pixel centres.

    The phase may be one step outside 0 .. factor - 1; the neighbours never leave -1 .. 1.

    Example:
        >>> neighbour_weights(2, 0), neighbour_weights(2, 2)
        ({-1: 0.25, 0: 0.75}, {0: 0.25, 1: 0.75})
    """
    position = (phase + 0.5) / factor - 0.5
    left = math.floor(position)
    share = position - left
    return {n: w for n, w in ((left, 1 - share), (left + 1, share)) if w}


class CoarseConvolution:
    """The convolution of one row's map, ready to give any plane of its result.

    Args:
        value: (width, *grid) of three axes, of which the second may be a dummy of length 1.
        kernel: (outputs, width, 3, 1 or 3, 3); a 1 for the dummy axis. Padding is zero, one voxel.
        factors: how much each axis is upsampled before.

    Example:
        >>> x, k = torch.rand(2, 4, 3, 5), torch.rand(7, 2, 3, 3, 3)
        >>> fine = F.interpolate(x[None], scale_factor=2, mode="trilinear")
        >>> plane = torch.zeros(6, 10, 7)
        >>> CoarseConvolution(x, k, (2, 2, 2)).add_plane(plane, 3)
        >>> torch.allclose(plane, F.conv3d(fine, k, padding=1)[0, :, 3].movedim(0, -1), atol=1e-5)
        True
    """

    def __init__(self, value: Float[Tensor, "width d h w"], kernel: Tensor, factors: Sequence[int]):
        self.factors = tuple(factors)
        self.kernel = kernel
        self.reach = kernel.shape[3] // 2
        self.grid = tuple(value.shape[1:])
        width = value.shape[0]
        padded = F.pad(value[None], (1, 1, self.reach, self.reach, 1, 1), mode="replicate")[0]
        self.rows, self.columns = padded.shape[2:]
        # The first axis lies beside the channels, so that three neighbours are one contiguous row of a matrix.
        self.matrix = padded.permute(2, 3, 1, 0).reshape(self.rows * self.columns, -1)
        self.span = 3 * width
        self._folded: dict[tuple[int, bool, bool], Tensor] = {}
        self._allocate(value)

    def _allocate(self, value: Tensor) -> None:
        """Room for one plane's intermediate results: fresh memory for each would cost as much as the sums."""
        outputs, _, _, offsets, _ = self.kernel.shape
        _, h, w = self.grid
        self._rows = value.new_empty(self.rows * self.columns, self.span)
        self._mixed = value.new_empty(3 * offsets, self.rows * self.columns, outputs)
        self._along = value.new_empty(self.factors[2], offsets, self.rows, w, outputs)
        self._fine = value.new_empty(self.factors[1], self.factors[2], h, w, outputs)

    def add_plane(self, target: Float[Tensor, "h w outputs"], index: int) -> None:
        """Add plane `index` of the result to `target`."""
        j, phase = divmod(index, self.factors[0])
        last = index == self.grid[0] * self.factors[0] - 1
        kernel = self._kernel(phase, index == 0, last)
        start = j * (self.span // 3)
        self._rows.copy_(self.matrix[:, start : start + self.span])
        mixed = torch.bmm(self._rows.expand(len(kernel), -1, -1), kernel, out=self._mixed)
        mixed = mixed.view(self.kernel.shape[3], 3, self.rows, self.columns, -1)
        spread(mixed.unbind(1), 2, self._along)
        spread(self._along.unbind(1), 1, self._fine)
        _, h, w = self.grid
        target.view(h, self.factors[1], w, self.factors[2], -1).add_(self._fine.permute(2, 0, 3, 1, 4))

    def _kernel(self, phase: int, first: bool, last: bool) -> Tensor:
        """(offsets, 3 width, outputs): the kernel with the interpolation along the first axis folded in."""
        key = (phase, first, last)
        if key not in self._folded:
            outputs, width = self.kernel.shape[:2]
            folded = self.kernel.new_zeros(3, outputs, width, *self.kernel.shape[3:])
            for offset in (-1, 0, 1):
                if (first and offset == -1) or (last and offset == 1):
                    continue  # the convolution's zero padding
                for neighbour, share in neighbour_weights(self.factors[0], phase + offset).items():
                    folded[neighbour + 1] += share * self.kernel[:, :, offset + 1]
            self._folded[key] = folded.permute(3, 4, 0, 2, 1).reshape(-1, self.span, outputs)
        return self._folded[key]


def spread(parts: Sequence[Tensor], axis: int, result: Float[Tensor, "factor *shape"]) -> None:
    """Sum over offsets of the shifted, upsampled parts, along one axis; the fine voxels' phases stay apart.

    Args:
        parts: one for offset 0, or three for -1, 0 and 1. With three, `axis` is padded by one repeated voxel.
        axis: the axis that is upsampled.
        result: overwritten; as many phases as the axis is upsampled by, each of a part's shape without padding.
    """
    reach = len(parts) // 2
    factor, n = result.shape[0], result.shape[axis + 1]
    for phase, target in enumerate(result):
        filled = False
        for part, offset in zip(parts, range(-reach, reach + 1), strict=True):
            for neighbour, share in neighbour_weights(factor, phase + offset).items():
                source = part.narrow(axis, reach + neighbour, n)
                if filled:
                    target.add_(source, alpha=share)
                else:
                    torch.mul(source, share, out=target)
                    filled = True
    if reach:  # beyond the ends the convolution sees zeros, not the repeated voxel
        result[0].select(axis, 0).sub_(parts[0].select(axis, 0))
        result[-1].select(axis, n - 1).sub_(parts[-1].select(axis, n + 1))
