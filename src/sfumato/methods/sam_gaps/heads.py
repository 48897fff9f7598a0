"""All heads as one batched product."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .coding import decode, head_names
from .config import SamGapsConfig
from .features import feature_width


class HeadBank(nn.Module):
    """Multilayer perceptrons with sigmoid outputs, evaluated side by side (paper, section 7: 512, 512, 1).

    With `shared=False` every head is a perceptron of its own; else the heads of a member share all but the last
    layer, so that IoUs and gaps rest on the same units. Members are complete banks whose mean answers. Initialised as
    `torch.nn.Linear` is.

    Args:
        config: ladder, widths and sharing.

    Example:
        >>> bank = HeadBank(SamGapsConfig.published())
        >>> sum(p.numel() for p in bank.parameters()) // len(bank.names)
        525825
    """

    def __init__(self, config: SamGapsConfig):
        super().__init__()
        self.names = head_names(config.ladder)
        self.config = config
        heads = len(self.names)
        groups, outputs = (config.members, heads) if config.shared else (config.members * heads, 1)
        widths = (feature_width(config), *config.hidden, outputs)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for into, out in pairwise(widths):
            bound = into**-0.5
            self.weights.append(torch.empty(groups, into, out).uniform_(-bound, bound))
            self.biases.append(torch.empty(groups, 1, out).uniform_(-bound, bound))

    @property
    def undecayed(self) -> tuple[Tensor, ...]:
        """Weight decay leaves biases alone."""
        return tuple(self.biases)

    def member_logits(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows members heads"]:
        """Before the sigmoid, in float32 even where autocast is on: gaps are smaller than the steps of bfloat16."""
        with torch.autocast(features.device.type, enabled=False):
            x = self._disturbed(features.float())
            for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
                x = F.dropout(F.relu(x), self.config.dropout, self.training) if i else x
                x = torch.baddbmm(bias, x, weight)
        rows = x.shape[1]
        return (
            x.unflatten(0, (self.config.members, -1))
            .permute(2, 0, 1, 3)
            .reshape(rows, self.config.members, -1)
        )

    def coded(self, features: Float[Tensor, "rows features"]) -> Float[Tensor, "rows heads"]:
        """Mean over members of the sigmoid outputs, as `coding.encode` codes targets."""
        return torch.sigmoid(self.member_logits(features)).mean(dim=1)

    def forward(
        self, features: Float[Tensor, "rows hypotheses features"]
    ) -> Float[Tensor, "rows hypotheses heads"]:
        """IoUs in (0, 1) and gaps in (-gap_range, gap_range), heads in the order of `names`."""
        found = self.coded(features.flatten(0, -2))
        return decode(found, self.names, self.config.gap_range).unflatten(0, features.shape[:-1])

    def _disturbed(self, features: Tensor) -> Tensor:
        """(groups, rows, features): one draw of noise and dropout for all groups, and none but while fitting."""
        x = features
        if self.training:
            if self.config.input_noise:
                x = x + self.config.input_noise * torch.randn_like(x)
            x = F.dropout(x, self.config.input_dropout)
        return x.expand(len(self.weights[0]), -1, -1)
