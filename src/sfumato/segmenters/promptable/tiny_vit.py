"""TinyViT (Wu et al., 2022, arXiv 2207.10666) as MobileSAM uses it: a picture of any size in, SAM's embedding out.

Batch normalisation is folded into the convolutions, as in an exported graph.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .prompt_encoder import PlaneNorm

STRIDE = 16
WIDTHS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (0, 4, 5, 10), (0, 7, 14, 7)
"""Per stage; the first stage has convolutions only."""
OUTPUT_WIDTH = 256


class MobileConvolution(nn.Module):
    """Widen, look around, narrow, add."""

    def __init__(self, width: int, expansion: int = 4):
        super().__init__()
        wide = expansion * width
        self.widen, self.narrow = nn.Conv2d(width, wide, 1), nn.Conv2d(wide, width, 1)
        self.around = nn.Conv2d(wide, wide, 3, padding=1, groups=wide)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, rows, columns) to the same."""
        return F.gelu(x + self.narrow(F.gelu(self.around(F.gelu(self.widen(x))))))


class Merging(nn.Module):
    """To the next stage's width and, but for the last, to half the resolution."""

    def __init__(self, width: int, outputs: int, stride: int):
        super().__init__()
        self.widen, self.mix = nn.Conv2d(width, outputs, 1), nn.Conv2d(outputs, outputs, 1)
        self.around = nn.Conv2d(outputs, outputs, 3, stride=stride, padding=1, groups=outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, rows, columns) to (batch, outputs, rows / stride, columns / stride)."""
        return self.mix(F.gelu(self.around(F.gelu(self.widen(x)))))


class WindowAttention(nn.Module):
    """Attention within a window, with a learned bias for every pair of places."""

    bias: Tensor

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.norm, self.qkv, self.proj = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        self.register_buffer("bias", torch.zeros(heads, window**2, window**2))

    def forward(self, x: Float[Tensor, "windows places width"]) -> Float[Tensor, "windows places width"]:
        """Every window by itself."""
        mixed = self.qkv(self.norm(x)).unflatten(2, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        q, k, v = mixed.unbind(0)
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias, scale=self.scale)
        return self.proj(found.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Normalise, widen four times, narrow."""

    def __init__(self, width: int):
        super().__init__()
        self.norm, self.fc1, self.fc2 = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(*, width) to the same."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class Block(nn.Module):
    """Attention in windows, a depthwise convolution, a perceptron."""

    def __init__(self, width: int, heads: int, window: int):
        super().__init__()
        self.window = window
        self.attn = WindowAttention(width, heads, window)
        self.local = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mlp = Perceptron(width)

    def forward(
        self, x: Float[Tensor, "batch width rows columns"]
    ) -> Float[Tensor, "batch width rows columns"]:
        """The same size; windows that reach beyond the image see zeros there."""
        rows, columns = x.shape[2:]
        size = self.window
        below, right = -rows % size, -columns % size
        tiles = F.pad(x, (0, right, 0, below)).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        batch, width, high, _, wide, _ = tiles.shape
        windows = tiles.permute(0, 2, 4, 3, 5, 1).reshape(-1, size * size, width)
        seen = self.attn(windows).reshape(batch, high, wide, size, size, width)
        seen = seen.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)[..., :rows, :columns]
        x = self.local(x + seen)
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class TinyVit(nn.Module):
    """The encoder; sides of the input are multiples of 16."""

    def __init__(self) -> None:
        super().__init__()
        first = WIDTHS[0]
        self.stem = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in ((3, first // 2), (first // 2, first))
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(
                Block(width, heads, window) if heads else MobileConvolution(width) for _ in range(depth)
            )
            for width, depth, heads, window in zip(WIDTHS, DEPTHS, HEADS, WINDOWS, strict=True)
        )
        self.merging = nn.ModuleList(
            Merging(a, b, stride) for a, b, stride in zip(WIDTHS, WIDTHS[1:], (2, 2, 1), strict=False)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], OUTPUT_WIDTH, 1, bias=False),
            PlaneNorm(OUTPUT_WIDTH),
            nn.Conv2d(OUTPUT_WIDTH, OUTPUT_WIDTH, 3, padding=1, bias=False),
            PlaneNorm(OUTPUT_WIDTH),
        )

    def forward(
        self, image: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch 256 rows columns"]:
        """Normalised pictures to embeddings at a sixteenth of their sides."""
        x = self.stem[1](F.gelu(self.stem[0](image)))
        for i, stage in enumerate(self.stages):
            for block in stage:  # type: ignore[attr-defined]
                x = block(x)
            if i < len(self.merging):
                x = self.merging[i](x)
        return self.neck(x)
