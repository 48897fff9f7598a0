"""From tapped features of several resolutions to one fused feature per voxel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import TapError, UnknownNameError
from .streamed_fusion import can_stream, fuse_streamed

FUSIONS = ("reference", "light", "none")
CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALISATION = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class ReferenceFusion(nn.Module):
    """The paper's fusion: project each tap, resize, concatenate, two 3-wide convolutions.

    Each tap goes through a 1-wide convolution to `width` channels at its own resolution and is resized linearly
    (corners not aligned) to the largest tap's grid; then, twice: 3-wide convolution without bias, instance
    normalisation (affine, no running statistics), exact GELU.

    Args:
        widths: channels of the taps.
        width: channels of the fused feature.
        dims: 2 or 3.

    Example:
        >>> fusion = ReferenceFusion([8, 4], 6, 2)
        >>> fusion([torch.zeros(1, 8, 4, 4), torch.zeros(1, 4, 8, 8)]).shape
        torch.Size([1, 6, 8, 8])
    """

    def __init__(self, widths: Sequence[int], width: int, dims: int):
        super().__init__()
        convolution, norm = CONVOLUTION[dims], NORMALISATION[dims]
        self.projections = nn.ModuleList(convolution(w, width, 1, bias=False) for w in widths)
        self.first = convolution(len(widths) * width, width, 3, padding=1, bias=False)
        self.first_norm = norm(width, eps=1e-5, affine=True)
        self.second = convolution(width, width, 3, padding=1, bias=False)
        self.second_norm = norm(width, eps=1e-5, affine=True)

    def forward(self, taps: Sequence[Tensor]) -> Float[Tensor, "batch width *grid"]:
        """Tapped features, in the order of `widths`, to the fused feature on the largest tap's grid."""
        if can_stream(taps, self.first.weight):
            return fuse_streamed(
                taps,
                [p.get_parameter("weight") for p in self.projections],
                (self.first.weight, self.second.weight),
                (self.first_norm, self.second_norm),
            )
        return self.fuse_plainly(taps)

    def fuse_plainly(self, taps: Sequence[Tensor]) -> Float[Tensor, "batch width *grid"]:
        """As the paper writes it: what training uses, and what `fuse_streamed` must agree with."""
        grid = largest_grid(taps)
        projected = [resize(p(t), grid) for p, t in zip(self.projections, taps, strict=True)]
        x = F.gelu(self.first_norm(self.first(torch.cat(projected, dim=1))))
        return F.gelu(self.second_norm(self.second(x)))


class LightFusion(nn.Module):
    """Project each tap, resize, add, normalise: the paper's fusion without its two wide convolutions.

    A projection and a linear resizing commute, so all multiplications happen at the taps' own resolutions; the
    cost over the backbone falls from about a half to a few per cent.
    """

    def __init__(self, widths: Sequence[int], width: int, dims: int):
        super().__init__()
        self.projections = nn.ModuleList(CONVOLUTION[dims](w, width, 1, bias=False) for w in widths)
        self.norm = NORMALISATION[dims](width, eps=1e-5, affine=True)

    def forward(self, taps: Sequence[Tensor]) -> Float[Tensor, "batch width *grid"]:
        """Tapped features, in the order of `widths`, to the fused feature on the largest tap's grid."""
        grid = largest_grid(taps)
        total = sum(resize(p(t), grid) for p, t in zip(self.projections, taps, strict=True))
        return F.gelu(self.norm(torch.as_tensor(total)))


class FinestTap(nn.Module):
    """No fusion: the finest tap as it is (the paper's single-tap mode)."""

    def forward(self, taps: Sequence[Tensor]) -> Float[Tensor, "batch width *grid"]:
        """The first of the taps with the largest grid."""
        grid = largest_grid(taps)
        return next(t for t in taps if tuple(t.shape[2:]) == grid)


def make_fusion(name: str, widths: Sequence[int], width: int, dims: int) -> nn.Module:
    """One of `FUSIONS`.

    Raises:
        UnknownNameError: another name.
        TapError: no taps at all.
    """
    if not widths:
        raise TapError(
            "The segmenter taps no features, expected at least one; wrap it with taps='auto' or a list."
        )
    if name not in FUSIONS:
        raise UnknownNameError("fusion", name, FUSIONS)
    if name == "none":
        return FinestTap()
    return (ReferenceFusion if name == "reference" else LightFusion)(widths, width, dims)


def largest_grid(taps: Sequence[Tensor]) -> tuple[int, ...]:
    """The grid with most voxels; the first one wins a tie."""
    grids = [tuple(t.shape[2:]) for t in taps]
    return max(grids, key=lambda g: torch.Size(g).numel())


def resize(value: Tensor, grid: Sequence[int]) -> Tensor:
    """Linear resizing with half-pixel centres; nothing happens when the grid is already right."""
    if tuple(value.shape[2:]) == tuple(grid):
        return value
    return F.interpolate(value, size=tuple(grid), mode=INTERPOLATION[value.dim() - 2], align_corners=False)
