"""The estimator: fused features and what the logits say, through a small network, to the log-odds of an error."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...heads.error_table import ErrorTable
from ...heads.fusion import make_fusion, resize
from ...heads.tapped import pointwise, tapped_features
from ...measures.entropy import entropy, log_doubt
from ...types import Batch, Kind, Segmentation, Uncertainty
from .config import ErrorHeadConfig

CHUNK = 1 << 15
"""Voxels computed at a time while predicting: small enough to stay in the processor's cache."""
DOUBT_UNIT = 5.0
"""Logarithmic doubt runs from 0 to about -20; divided by this it is of the other inputs' order."""


class ErrorHead(nn.Module):
    """Log-odds that a voxel's label is wrong, voxel by voxel.

    Two hidden layers on the fused feature, the centred logits, the entropy and ln(1 - max p), and a straight line on
    the same inputs that starts at ln(1 - max p): so an untrained head has the softmax's order.

    Args:
        config: its settings.
        widths: channels by tap.
        classes: of the full logits, background included.
        dims: 2 or 3.

    Example:
        >>> head = ErrorHead(ErrorHeadConfig(), {"a": 256, "b": 128, "c": 32}, classes=4, dims=3)
        >>> sum(p.numel() for p in head.parameters())
        15751
    """

    def __init__(self, config: ErrorHeadConfig, widths: Mapping[str, int], classes: int, dims: int):
        super().__init__()
        self.config = config
        self.taps = tuple(widths)
        self.fusion = make_fusion(config.fusion, list(widths.values()), config.width, dims)
        inputs = config.width + classes + 2
        self.first = nn.Linear(inputs, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.last = nn.Linear(config.hidden, 1)
        self.straight = nn.Linear(inputs, 1, bias=False)
        self.error_table = ErrorTable()
        for tensor in (self.last.weight, self.last.bias, self.straight.weight):
            nn.init.zeros_(tensor)
        with torch.no_grad():
            self.straight.weight[0, -1] = DOUBT_UNIT

    def logit(self, segmentation: Segmentation) -> Float[Tensor, "batch 1 *grid"]:
        """Log-odds of an error; with gradients all voxels at once, else a piece of the grid at a time.

        Raises:
            TapError: a tap is missing or has no grid.
        """
        grid = tuple(segmentation.logits.shape[2:])
        dtype = self.first.weight.dtype
        fused = resize(self.fusion(tapped_features(segmentation, self.taps, dtype)), grid).flatten(2)
        logits = segmentation.full_logits().to(dtype).flatten(2)
        size = fused.shape[2] if torch.is_grad_enabled() else CHUNK
        pieces = zip(fused.split(size, dim=2), logits.split(size, dim=2), strict=True)
        return torch.cat([self._piece(f, z) for f, z in pieces], dim=2).unflatten(2, grid)

    def _piece(
        self, fused: Float[Tensor, "batch width voxels"], logits: Float[Tensor, "batch classes voxels"]
    ) -> Float[Tensor, "batch 1 voxels"]:
        doubts = [entropy(torch.softmax(logits, dim=1)), log_doubt(logits) / DOUBT_UNIT]
        centred = logits - logits.mean(dim=1, keepdim=True)
        x = torch.cat([fused, centred, torch.stack(doubts, dim=1)], dim=1)
        hidden = F.gelu(pointwise(self.second, F.gelu(pointwise(self.first, x))))
        return pointwise(self.last, hidden) + pointwise(self.straight, x)

    @torch.no_grad()
    def respond(
        self, batch: Batch, segmentation: Segmentation
    ) -> dict[str, Float[Tensor, "batch maps *grid"]]:
        """One map, the log-odds of an error."""
        return {"error_logit": self.logit(segmentation).float()}

    @torch.no_grad()
    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """RANKING = the (blended) log-odds; ERROR = these through the table of the calibration cases.

        Raises:
            InputError: the response is not there.
        """
        if "error_logit" not in segmentation.features:
            raise InputError(
                "The segmentation carries no error_logit, expected the response of respond(); call it first."
            )
        ranking = segmentation.features["error_logit"][:, 0]
        return Uncertainty({Kind.RANKING: ranking, Kind.ERROR: self.error_table(ranking)})
