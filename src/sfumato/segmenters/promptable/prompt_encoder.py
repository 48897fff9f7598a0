"""SAM's prompt encoder: clicks and corners as Fourier features of their place plus a learned vector of their kind."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NOT_A_POINT, BACKGROUND, FOREGROUND, UPPER_LEFT, LOWER_RIGHT = -1, 0, 1, 2, 3
"""SAM's labels of points."""


class PlaneNorm(nn.Module):
    """Layer normalisation over the channels of a plane, at every pixel."""

    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.bias, self.eps = (
            nn.Parameter(torch.ones(width)),
            nn.Parameter(torch.zeros(width)),
            eps,
        )

    def forward(
        self, x: Float[Tensor, "batch width rows columns"]
    ) -> Float[Tensor, "batch width rows columns"]:
        """Zero mean and unit variance over channels, then scale and shift."""
        centred = x - x.mean(dim=1, keepdim=True)
        scaled = centred * torch.rsqrt(centred.square().mean(dim=1, keepdim=True) + self.eps)
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


class PromptEncoder(nn.Module):
    """Points, corners and masks as tokens and as an addition to the image's cells."""

    gaussian: Tensor

    def __init__(self, width: int = 256):
        super().__init__()
        self.register_buffer("gaussian", torch.zeros(2, width // 2))
        self.kinds = nn.Parameter(torch.zeros(4, width))
        self.not_a_point = nn.Parameter(torch.zeros(width))
        self.no_mask = nn.Parameter(torch.zeros(width))
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            PlaneNorm(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            PlaneNorm(16),
            nn.GELU(),
            nn.Conv2d(16, width, 1),
        )

    def position(self, places: Float[Tensor, "*any 2"]) -> Float[Tensor, "*any feature_width"]:
        """Fourier features of places (x, y) in [0, 1]."""
        angles = (2 * places - 1) @ self.gaussian * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, rows: int, columns: int) -> Float[Tensor, "cells feature_width"]:
        """Positions of the image's cells, row by row."""
        y, x = ((torch.arange(n, device=self.no_mask.device) + 0.5) / n for n in (rows, columns))
        places = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)
        return self.position(places).flatten(0, 1)

    def points(
        self, places: Float[Tensor, "prompts points 2"], labels: Int[Tensor, "prompts points"], side: int
    ) -> Float[Tensor, "prompts points feature_width"]:
        """Tokens of points.

        Args:
            places: (x, y) in pixels of the network's input, whose centres lie half a pixel further.
            labels: SAM's, see the names above.
            side: of the network's input.
        """
        tokens = self.position((places + 0.5) / side)
        known = labels != NOT_A_POINT
        return torch.where(known[..., None], tokens + self.kinds[labels.clamp(min=0)], self.not_a_point)

    def masks(
        self, logits: Float[Tensor, "prompts rows columns"]
    ) -> Float[Tensor, "prompts cells feature_width"]:
        """What a mask prompt adds to the cells, a quarter of its sides each."""
        return self.mask_downscaling(logits[:, None]).flatten(2).transpose(1, 2)
