"""The reference fusion for prediction on a processor: the same numbers in less time and a fraction of the memory.

Taps are neither brought to full resolution nor joined (`coarse_convolution`). Each convolution runs over slabs of a
few planes, channels last, and both share one buffer: the second one's planes replace the first one's as soon as
these have been read. Everything else is no larger than a slab or a coarse tap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .coarse_convolution import CoarseConvolution, upsampling_factors
from .plane_convolution import PlaneConvolution

Normalisation = nn.InstanceNorm2d | nn.InstanceNorm3d

SLAB = 1 << 15
"""Voxels computed at a time, more or less: 4 MB of 32 channels, which the processor's last cache holds."""


def can_stream(taps: Sequence[Tensor], weight: Tensor) -> bool:
    """Whether `fuse_streamed` may stand in: no gradients, on the CPU, one precision, whole factors between grids."""
    if torch.is_grad_enabled() or weight.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return False
    if any(t.dtype != weight.dtype or t.device != weight.device for t in taps):
        return False
    grid = max((t.shape[2:] for t in taps), key=torch.Size.numel)
    return all(upsampling_factors(t.shape[2:], grid) is not None for t in taps)


def fuse_streamed(
    taps: Sequence[Float[Tensor, "batch channels *coarse"]],
    projections: Sequence[Tensor],
    convolutions: tuple[Tensor, Tensor],
    norms: tuple[Normalisation, Normalisation],
) -> Float[Tensor, "batch width *grid"]:
    """Project and upsample the taps, join them, then twice: convolve, normalise, GELU.

    Args:
        taps: of two or three axes, each a whole factor coarser than the largest, which may be there several times.
        projections: weights of the taps' 1-wide convolutions.
        convolutions: weights of the two 3-wide convolutions.
        norms: the affine instance normalisations after them.

    Returns:
        The fused feature; channels are last in memory.
    """
    flat = taps[0].dim() == 4
    volumes = (
        [t.unsqueeze(3) for t in taps] if flat else list(taps)
    )  # rows of an image are planes of height 1
    kernels = [k.unsqueeze(3) if flat else k for k in convolutions]
    grid = max((t.shape[2:] for t in volumes), key=torch.Size.numel)
    # One plane more than the result: the second convolution writes one plane behind where it reads.
    buffer = taps[0].new_empty(len(taps[0]), grid[0] + 1, *grid[1:], kernels[1].shape[0])
    for row, target in enumerate(buffer):
        join = JoiningConvolution([v[row] for v in volumes], projections, kernels[0], grid)
        activate = _convolve(join, target[1:], norms[0])
        again = SlidingConvolution(kernels[1], _reader(target[1:], activate), target[1:])
        activate = _convolve(again, target[:-1], norms[1])
        for start, stop in slabs(target[:-1]):
            activate(target[start:stop], target[start:stop])
    fused = buffer[:, :-1].movedim(-1, 1)
    return fused.squeeze(3) if flat else fused


def slabs(volume: Float[Tensor, "planes h w channels"]) -> Iterator[tuple[int, int]]:
    """First plane and the one after the last, an even number of planes at a time while there are so many."""
    planes = max(2, SLAB // (volume.shape[1] * volume.shape[2]) // 2 * 2)
    for start in range(0, len(volume), planes):
        yield start, min(start + planes, len(volume))


def _convolve(
    convolution: Callable[[int, int], Tensor], target: Tensor, norm: Normalisation
) -> Callable[[Tensor, Tensor], Tensor]:
    """Fill the target slab by slab; returns what normalises a slab, applies the GELU and writes it elsewhere.

    The target holds the convolution up to a constant per channel, which normalisation takes away again: near zero
    mean, the sums of squares lose no digits.
    """
    pivot, total, squares = None, torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for start, stop in slabs(target):
        found = convolution(start, stop)
        pivot = found.mean(dim=(0, 1, 2)) if pivot is None else pivot
        slab = torch.sub(found, pivot, out=target[start:stop])
        total = total + slab.sum(dim=(0, 1, 2)).double()
        squares = squares + slab.square().sum(dim=(0, 1, 2)).double()
    count = target.shape[0] * target.shape[1] * target.shape[2]
    mean = total / count
    weight, bias = norm.get_parameter("weight").double(), norm.get_parameter("bias").double()
    scale = weight / torch.sqrt(squares / count - mean.square() + norm.eps)
    shift = bias - mean * scale
    scale, shift = scale.to(target.dtype), shift.to(target.dtype)
    return lambda slab, out: torch.ops.aten.gelu_(torch.addcmul(shift, slab, scale, out=out))


def _reader(source: Tensor, finish: Callable[[Tensor, Tensor], Tensor]) -> Callable[[int, int, Tensor], None]:
    def fill(start: int, stop: int, target: Tensor) -> None:
        finish(source[start:stop], target)

    return fill


class SlidingConvolution:
    """A convolution of planes that are made only when needed, each once.

    Args:
        kernel: (outputs, inputs, 3, 1 or 3, 3).
        fill: writes planes start .. stop - 1 of the input to its last argument.
        like: a volume of the input's grid.
    """

    def __init__(self, kernel: Tensor, fill: Callable[[int, int, Tensor], None], like: Tensor):
        self.convolution = PlaneConvolution(kernel)
        self.fill = fill
        self.planes = len(like)
        most = max(stop - start for start, stop in slabs(like))
        self.window = like.new_zeros(_even(most) + 2, *like.shape[1:3], kernel.shape[1])

    def __call__(self, start: int, stop: int) -> Float[Tensor, "slab h w outputs"]:
        """Planes start .. stop - 1 of the result; to be asked for from the first to the last."""
        count = _even(stop - start)
        known = 1  # the plane before the first one is zero
        if start:  # the last two planes of the previous window
            known = 2
            self.window[:2] = self.window[-2:]
        filled = min(stop, self.planes - 1) - start + 2
        self.fill(start - 1 + known, start - 1 + filled, self.window[known:filled])
        self.window[filled:] = 0
        return self.convolution(self.window[: count + 2])[: stop - start]


class JoiningConvolution:
    """The first convolution, over all projected taps, as a sum over taps.

    Args:
        taps: (channels, *grid) of one row, three axes.
        projections: as in `fuse_streamed`.
        kernel: (outputs, taps * width, 3, 1 or 3, 3).
        grid: the largest.
    """

    def __init__(
        self, taps: Sequence[Tensor], projections: Sequence[Tensor], kernel: Tensor, grid: torch.Size
    ):
        self.fine: list[SlidingConvolution] = []
        self.coarse: list[CoarseConvolution] = []
        parts = kernel.chunk(len(taps), dim=1)
        for tap, projection, part in zip(taps, projections, parts, strict=True):
            weight, columns = projection.flatten(1), tap.flatten(1)
            if tap.shape[1:] == grid:
                like = tap.new_empty(()).expand(*grid, 1)
                self.fine.append(SlidingConvolution(part, _projector(columns, weight, grid), like))
            else:
                factors = upsampling_factors(tap.shape[1:], grid)
                assert factors is not None
                projected = torch.mm(columns.T, weight.T).view(*tap.shape[1:], -1)
                self.coarse.append(CoarseConvolution(projected, part, factors))

    def __call__(self, start: int, stop: int) -> Float[Tensor, "slab h w outputs"]:
        """Planes start .. stop - 1 of the result; to be asked for from the first to the last."""
        result = self.fine[0](start, stop)
        for more in self.fine[1:]:
            result += more(start, stop)
        for part in self.coarse:
            for plane in range(start, stop):
                part.add_plane(result[plane - start], plane)
        return result


def _projector(
    columns: Float[Tensor, "channels voxels"], weight: Tensor, grid: torch.Size
) -> Callable[[int, int, Tensor], None]:
    area = grid[1] * grid[2]

    def fill(start: int, stop: int, target: Tensor) -> None:
        torch.mm(columns[:, start * area : stop * area].T, weight.T, out=target.view(-1, weight.shape[0]))

    return fill


def _even(count: int) -> int:
    return count + count % 2
