"""The decoder: upsample, join the encoder's features of that level, convolve; a sub-pixel step at the end.

Das et al., arXiv 2602.14498; U-Net (Ronneberger et al., 2015, arXiv 1505.04597); sub-pixel convolution (Shi et al.,
2016, arXiv 1609.05158) with an initialisation that starts without a checkerboard (Aitken et al., 2017,
arXiv 1707.02937) and an average against what of it is learnt (Sugawara et al., 2018, arXiv 1806.02658).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TextGuidedConfig

SCALE = 4
"""Between the encoder's finest features and the image."""
GROUPS = 8


class DecoderBlock(nn.Module):
    """(batch, width_in, rows, columns) and finer features of width_out to width_out on their grid.

    Args:
        width_in: of the coarse features.
        width_out: of the finer ones and of the result.
        norm: `batch` or `group`.

    Example:
        >>> DecoderBlock(16, 8)(torch.zeros(2, 16, 3, 3), torch.zeros(2, 8, 5, 6)).shape
        torch.Size([2, 8, 5, 6])
    """

    def __init__(self, width_in: int, width_out: int, norm: str = "batch"):
        super().__init__()
        self.upsample = nn.ConvTranspose2d(width_in, width_out, 2, stride=2, bias=False)
        self.first = nn.Conv2d(2 * width_out, width_out, 3, padding=1, bias=False)
        self.second = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = _norm(norm, width_out), _norm(norm, width_out)

    def forward(
        self, x: Float[Tensor, "batch width_in rows columns"], skip: Float[Tensor, "batch width_out *fine"]
    ) -> Float[Tensor, "batch width_out *fine"]:
        """Decode one level; an odd side of the finer grid loses the row or column that doubling adds."""
        x = self.upsample(x)[..., : skip.shape[2], : skip.shape[3]]
        x = F.leaky_relu(self.first_norm(self.first(torch.cat([x, skip], dim=1))), 0.01)
        return F.leaky_relu(self.second_norm(self.second(x)), 0.01)


class SubpixelUpsampling(nn.Module):
    """(batch, width, rows, columns) to (batch, width / 4, 4 rows, 4 columns): 16 sub-pixels per place, then averaged.

    Args:
        config: of the network. With `symmetric_pad` the average is over (1, 2, 2, 2, 1) / 8 along each axis, centred,
            with repeated borders; otherwise over four pixels of which the last is the output's, with zeros before the
            first. The bias, which would start sub-pixels apart, starts at 0 but in the authors' program.
        width: a multiple of 4.

    Example:
        >>> SubpixelUpsampling(TextGuidedConfig(), 8)(torch.zeros(1, 8, 3, 5)).shape
        torch.Size([1, 2, 12, 20])
    """

    def __init__(self, config: TextGuidedConfig, width: int):
        super().__init__()
        self.symmetric = config.symmetric_pad
        kernels = width // 4
        self.convolution = nn.Conv2d(width, kernels * SCALE**2, 3, padding=1)
        one = nn.init.kaiming_normal_(torch.empty(kernels, width, 3, 3))
        with torch.no_grad():
            self.convolution.weight.copy_(one.repeat_interleave(SCALE**2, dim=0))
            if config.profile != "released" and self.convolution.bias is not None:
                self.convolution.bias.zero_()

    def forward(
        self, x: Float[Tensor, "batch width rows columns"]
    ) -> Float[Tensor, "batch kernels fine_rows fine_columns"]:
        """Upsample."""
        return self.average(F.pixel_shuffle(self.convolution(x), SCALE))

    def average(self, x: Float[Tensor, "batch kernels *grid"]) -> Float[Tensor, "batch kernels *grid"]:
        """The mean over neighbours of every pixel, in which sub-pixels of one place blend with the next one's."""
        if not self.symmetric:
            return F.avg_pool2d(F.pad(x, (SCALE - 1, 0, SCALE - 1, 0)), SCALE, stride=1)
        wide = F.pad(x, [SCALE // 2] * 4, mode="replicate")
        # Two boxes: of four pixels, which lies half a pixel off, and of two, which sets that right.
        return F.avg_pool2d(F.avg_pool2d(wide, SCALE, stride=1), 2, stride=1)


def _norm(name: str, width: int) -> nn.Module:
    if name == "batch":
        return nn.BatchNorm2d(width)
    return nn.GroupNorm(math.gcd(GROUPS, width), width)
