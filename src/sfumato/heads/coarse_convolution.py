"""A 3-wide convolution of a linearly upsampled map, with the channel mixing on the coarse grid.

Upsampling by f = 2 or 4 (half-pixel centres) is: put the coarse voxels f apart on the fine grid, zeros between them,
then smooth along each axis with running sums: f wide, f wide again and 2 wide. Smoothing treats all channels alike,
so it may as well come after the convolution, which then meets zeros nearly everywhere: it is a transposed
convolution of the coarse map, at 1/f of the multiplications per axis, into the output's channels.

Along the first axis the interpolation is folded into the kernel instead; so every fine plane stands for itself and
needs three coarse planes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FACTORS = (1, 2, 4)


def upsampling_factors(coarse: Sequence[int], fine: Sequence[int]) -> tuple[int, ...] | None:
    """By how much each axis is upsampled, or None where that is not one of `FACTORS`.

    Example:
        >>> upsampling_factors([4, 8], [8, 8]), upsampling_factors([4, 5], [8, 9])
        ((2, 1), None)
    """
    factors = tuple(n // c for c, n in zip(coarse, fine, strict=True))
    if any(f not in FACTORS or f * c != n for f, c, n in zip(factors, coarse, fine, strict=True)):
        return None
    return factors


def neighbour_weights(factor: int, phase: int) -> dict[int, float]:
    """Which coarse neighbours (offsets from j) fine voxel `factor * j + phase` is interpolated from.

    The phase may be one step outside 0 .. factor - 1; the neighbours never leave -1 .. 1.

    Example:
        >>> neighbour_weights(2, 0), neighbour_weights(2, 2)
        ({-1: 0.25, 0: 0.75}, {0: 0.25, 1: 0.75})
    """
    position = (phase + 0.5) / factor - 0.5
    left = math.floor(position)
    share = position - left
    return {n: w for n, w in ((left, 1 - share), (left + 1, share)) if w}


def running_sums(factor: int) -> tuple[int, ...]:
    """Shifts s such that applying x[i] + x[i + s] for each of them smooths as upsampling does, up to `gain`.

    Example:
        >>> running_sums(2), running_sums(4)
        ((1, 1, 1), (1, 2, 1, 2, 1))
    """
    wide = [1 << i for i in range(factor.bit_length() - 1)]
    return (*wide, *wide, 1) if factor > 1 else ()


def gain(factor: int) -> int:
    """What `running_sums` multiply a constant map by that has zeros between its voxels."""
    return 2 * factor if factor > 1 else 1


class CoarseConvolution:
    """The convolution of one row's map, ready to give any plane of its result.

    Args:
        value: (*grid, width) of three axes, of which the second may be a dummy of length 1.
        kernel: (outputs, width, 3, 1 or 3, 3), a 1 for the dummy axis. Padding is zero, one voxel.
        factors: how much each axis is upsampled before.

    Example:
        >>> x, k = torch.rand(2, 4, 3, 5), torch.rand(7, 2, 3, 3, 3)
        >>> fine = F.interpolate(x[None], scale_factor=2, mode="trilinear")
        >>> plane = torch.zeros(6, 10, 7)
        >>> CoarseConvolution(x.movedim(0, -1), k, (2, 2, 2)).add_plane(plane, 3)
        >>> torch.allclose(plane, F.conv3d(fine, k, padding=1)[0, :, 3].movedim(0, -1), atol=1e-5)
        True
    """

    def __init__(self, value: Float[Tensor, "d h w width"], kernel: Tensor, factors: Sequence[int]):
        self.depth = factors[0] * len(value)
        self.depth_factor, *self.factors = factors
        self.reaches = (kernel.shape[3] // 2, 1)
        self.sides = [f * n for f, n in zip(self.factors, value.shape[1:3], strict=True)]
        self.kernel = kernel / math.prod(gain(f) for f in self.factors)
        self.padded = repeat_border(value, (1, *self.reaches))
        _, rows, columns, width = self.padded.shape
        self.window = value.new_empty(rows, columns, 3, width)
        self.window_at = -1
        self.corrections = list(border_corrections(self.factors, self.reaches))
        self._folded: dict[tuple[int, bool, bool], Tensor] = {}

    def add_plane(self, target: Float[Tensor, "h w outputs"], index: int) -> None:
        """Add plane `index` of the result to `target`."""
        j, phase = divmod(index, self.depth_factor)
        if j != self.window_at:
            self.window.copy_(self.padded[j : j + 3].permute(1, 2, 0, 3))
            self.window_at = j
        source = self.window.flatten(2).permute(2, 0, 1)[None]
        kernel = self._kernel(phase, index == 0, index == self.depth - 1)
        plane = self._scatter(source, kernel)
        for weight, voxels, taps, place in self.corrections:
            plane[place].add_(self._scatter(source[..., *voxels], kernel[..., *taps]), alpha=weight)
        for axis, factor in enumerate(self.factors):
            for shift in running_sums(factor):
                length = plane.shape[axis] - shift
                plane = plane.narrow(axis, 0, length) + plane.narrow(axis, shift, length)
        target.add_(plane)

    def _scatter(self, source: Tensor, kernel: Tensor) -> Float[Tensor, "h w outputs"]:
        """Transposed convolution, cut to what the running sums read; border lines stay one voxel thick."""
        plane = F.conv_transpose2d(source, kernel, stride=self.factors)[0].permute(1, 2, 0)
        for axis, (factor, reach, side) in enumerate(
            zip(self.factors, self.reaches, self.sides, strict=True)
        ):
            if kernel.shape[2 + axis] == 2 * reach + 1:  # not a border line
                before = (factor + 1) * reach - (3 * factor // 2 - 1 if factor > 1 else 0)
                plane = plane.narrow(axis, before, side + sum(running_sums(factor)))
        return plane

    def _kernel(self, phase: int, first: bool, last: bool) -> Float[Tensor, "inputs outputs rows columns"]:
        """The kernel with the interpolation along the first axis folded in, turned for scattering."""
        key = (phase, first, last)
        if key not in self._folded:
            outputs, width = self.kernel.shape[:2]
            folded = self.kernel.new_zeros(3, width, outputs, *self.kernel.shape[3:])
            for offset in (-1, 0, 1):
                if (first and offset == -1) or (last and offset == 1):
                    continue  # the convolution's zero padding
                for neighbour, share in neighbour_weights(self.depth_factor, phase + offset).items():
                    folded[neighbour + 1] += share * self.kernel[:, :, offset + 1].transpose(0, 1)
            self._folded[key] = folded.flatten(0, 1).flip(2, 3).contiguous(memory_format=torch.channels_last)
        return self._folded[key]


def border_corrections(
    factors: Sequence[int], reaches: Sequence[int]
) -> Iterator[tuple[float, tuple[slice, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """What makes the convolution see zeros beyond the borders of a plane, and not the repeated voxels.

    The voxel beyond a border would reach the outermost result through one side of the kernel. The outermost
    scattered value is read by that result alone, so it is where that contribution is taken away.

    Yields:
        The weight, which coarse voxels, which part of the (turned) kernel, and which place in the plane.
    """
    whole = (slice(None), slice(None), slice(None))
    first = (slice(0, 1), slice(2, 3), slice(0, 1))
    last = (slice(-1, None), slice(0, 1), slice(-1, None))
    for choice in product(*([whole, first, last] if reach else [whole] for reach in reaches)):
        if all(side is whole for side in choice):
            continue
        weight = math.prod(-gain(f) for f, side in zip(factors, choice, strict=True) if side is not whole)
        voxels, taps, place = zip(*choice, strict=True)
        yield float(weight), voxels, taps, place


def repeat_border(value: Float[Tensor, "d h w width"], reaches: Sequence[int]) -> Tensor:
    """Pad the first three axes by repeating the outermost voxels, channels last."""
    shape = [n + 2 * r for n, r in zip(value.shape, reaches, strict=False)]
    result = value.new_empty(*shape, value.shape[3])
    result[tuple(slice(r, r + n) for n, r in zip(value.shape, reaches, strict=False))] = value
    for axis, reach in enumerate(reaches):
        if reach:
            result.select(axis, 0).copy_(result.select(axis, 1))
            result.select(axis, -1).copy_(result.select(axis, -2))
    return result
