"""SAM's mask decoder in plain torch: tokens and image cells in, four masks, their estimated IoUs and all tokens out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .prompt_encoder import PromptEncoder
from .two_way import CELLS_AT_ONCE, SharedCells, TwoWayTransformer

MASKS = 4
UPSCALED = (64, 32)
"""Channels after either doubling of the cells' resolution."""


@dataclass(frozen=True)
class DecoderOutput:
    """Mask 0 is the single one, 1 to 3 are the hypotheses.

    Args:
        logits: (prompts, 4, 4 x rows, 4 x columns).
        estimates: of IoU (prompts, 4), not squashed.
        iou_token: (prompts, width).
        mask_tokens: (prompts, 4, width).
    """

    logits: Float[Tensor, "prompts masks height width"]
    estimates: Float[Tensor, "prompts masks"]
    iou_token: Float[Tensor, "prompts feature_width"]
    mask_tokens: Float[Tensor, "prompts masks feature_width"]


class Perceptron(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, width: int, outputs: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, n) for n in (width, width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(*, width) to (*, outputs)."""
        for layer in list(self.layers)[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class Upscaling(nn.Module):
    """Cells to pixels: two transposed convolutions whose stride is their size, so each is one product per cell.

    Channels stay last and pixels stay grouped by cell until the masks are made, so nothing is moved in memory.
    """

    def __init__(self, width: int):
        super().__init__()
        wide, narrow = UPSCALED
        self.first, self.second = nn.Linear(width, 4 * wide), nn.Linear(wide, 4 * narrow)
        self.norm = nn.LayerNorm(wide, eps=1e-6)

    def forward(
        self,
        cells: Float[Tensor, "prompts cells feature_width"],
        weights: Float[Tensor, "prompts masks narrow"],
        rows: int,
    ) -> Float[Tensor, "prompts masks height width"]:
        """Masks: the upscaled cells times one vector per mask, a few cells at a time so that they stay in cache."""
        columns = cells.shape[1] // rows
        masks = cells.new_empty(*weights.shape[:2], 4 * rows, 4 * columns)
        step = max(1, CELLS_AT_ONCE // columns)
        for start in range(0, rows, step):
            part = cells[:, start * columns : (start + step) * columns]
            masks[:, :, 4 * start : 4 * (start + step)] = self._rows(part, weights, columns)
        return masks

    def _rows(self, cells: Tensor, weights: Tensor, columns: int) -> Tensor:
        wide, narrow = UPSCALED
        x = F.gelu(self.norm(self.first(cells).unflatten(2, (4, wide))))
        x = F.gelu(self.second(x)).reshape(len(cells), -1, narrow)
        masks = (weights @ x.transpose(1, 2)).unflatten(2, (-1, columns, 2, 2, 2, 2))
        return masks.permute(0, 1, 2, 4, 6, 3, 5, 7).flatten(5, 7).flatten(2, 4)


class SamDecoder(nn.Module):
    """Prompt encoder and mask decoder of SAM (Kirillov et al., 2023), for any number of prompts on one image."""

    def __init__(self, width: int = 256):
        super().__init__()
        self.prompt_encoder = PromptEncoder(width)
        self.transformer = TwoWayTransformer(width)
        self.output_tokens = nn.Parameter(torch.zeros(1 + MASKS, width))
        self.upscaling = Upscaling(width)
        self.hypernetworks = nn.ModuleList(Perceptron(width, UPSCALED[1]) for _ in range(MASKS))
        self.iou_prediction_head = Perceptron(width, MASKS)

    def prepare(
        self,
        image: Float[Tensor, "feature_width rows columns"],
        mask: Float[Tensor, "cells feature_width"] | None = None,
    ) -> SharedCells:
        """What all prompts on an image, or all with one mask prompt, have in common.

        Args:
            image: its embedding.
            mask: what a mask prompt adds to the cells (`PromptEncoder.masks`).
        """
        cells = image.flatten(1).T + (self.prompt_encoder.no_mask if mask is None else mask)
        return self.transformer.prepare(cells, self.prompt_encoder.grid(*image.shape[1:]))

    def forward(
        self,
        shared: SharedCells,
        points: Float[Tensor, "prompts points feature_width"],
        rows: int,
        cells: Float[Tensor, "prompts cells feature_width"] | None = None,
    ) -> DecoderOutput:
        """Answers to prompts of one layout.

        Args:
            shared: from `prepare`.
            points: tokens of clicks and corners (`PromptEncoder.points`).
            rows: of the image's embedding.
            cells: memory to work in, for callers that decode again and again.
        """
        if cells is None:
            cells = shared.cells.new_empty(len(points), *shared.cells.shape)
        outputs = self.output_tokens.expand(len(points), -1, -1)
        tokens = self.transformer(torch.cat([outputs, points], dim=1), shared, cells)
        iou_token, mask_tokens = tokens[:, 0], tokens[:, 1 : 1 + MASKS]
        weights = torch.stack([net(mask_tokens[:, k]) for k, net in enumerate(self.hypernetworks)], dim=1)
        logits = self.upscaling(cells, weights, rows)
        return DecoderOutput(logits, self.iou_prediction_head(iou_token), iou_token, mask_tokens)
