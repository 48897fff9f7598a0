"""A residual U-Net of about one million parameters, 2-D and 3-D: the backbone of the shipped pairs.

One stage is two 3-wide convolutions with instance normalisation and a shortcut (He et al., 2016); stages are
joined as in U-Net (Ronneberger et al., 2015). Downsampling is a strided convolution inside the stage,
upsampling is linear, so any grid whose sides the `divisor` divides goes in.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALISATION = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
WIDTHS = {2: (16, 32, 64, 128, 128), 3: (16, 32, 64, 96)}
INTERPOLATION = {2: "bilinear", 3: "trilinear"}


class ResidualStage(nn.Module):
    """Two convolutions and a shortcut; halves the grid when `stride` is 2."""

    def __init__(self, dims: int, width_in: int, width_out: int, stride: int = 1):
        super().__init__()
        convolution, norm = CONVOLUTION[dims], NORMALISATION[dims]
        self.first = convolution(width_in, width_out, 3, stride=stride, padding=1, bias=False)
        self.first_norm = norm(width_out, affine=True)
        self.second = convolution(width_out, width_out, 3, padding=1, bias=False)
        self.second_norm = norm(width_out, affine=True)
        same = width_in == width_out and stride == 1
        self.shortcut = (
            nn.Identity() if same else convolution(width_in, width_out, 1, stride=stride, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width_in, *grid) to (batch, width_out, *grid / stride)."""
        y = F.leaky_relu(self.first_norm(self.first(x)), 0.01)
        y = self.second_norm(self.second(y))
        return F.leaky_relu(y + self.shortcut(x), 0.01)


class ResidualUNet(nn.Module):
    """Image in, logits out on the same grid.

    Args:
        dims: 2 or 3.
        channels: image channels.
        classes: logits per voxel, background included.
        widths: feature width per level; each level but the first halves the grid.

    Example:
        >>> ResidualUNet(2, 1, 3, widths=(4, 8))(torch.zeros(1, 1, 16, 16)).shape
        torch.Size([1, 3, 16, 16])
    """

    def __init__(self, dims: int, channels: int, classes: int, widths: Sequence[int] | None = None):
        super().__init__()
        widths = tuple(widths or WIDTHS[dims])
        self.dims = dims
        self.divisor = 2 ** (len(widths) - 1)
        before = (channels, *widths[:-1])
        strides = (1, *([2] * (len(widths) - 1)))
        self.encoder = nn.ModuleList(
            ResidualStage(dims, i, o, s) for i, o, s in zip(before, widths, strides, strict=True)
        )
        fine = list(zip(widths[1:], widths[:-1], strict=True))[::-1]
        self.decoder = nn.ModuleList(ResidualStage(dims, coarse + skip, skip) for coarse, skip in fine)
        self.classifier = CONVOLUTION[dims](widths[0], classes, 1)

    def forward(self, image: Float[Tensor, "batch channels *grid"]) -> Float[Tensor, "batch classes *grid"]:
        """Raw logits."""
        skips = []
        x = image
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        for stage, skip in zip(self.decoder, skips[-2::-1], strict=True):
            x = F.interpolate(x, size=skip.shape[2:], mode=INTERPOLATION[self.dims], align_corners=False)
            x = stage(torch.cat([x, skip], dim=1))
        return self.classifier(x)
