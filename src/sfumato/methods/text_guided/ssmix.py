"""The text branch of a fusion block: tokens are brought to the image's width, mixed along the sentence, and pooled.

Das et al., arXiv 2602.14498, "SSMix". In one line: a filter of four tokens, a selective scan on one half of the
channels, both halves merged, and a linear map of tokens (not of channels) to fewer tokens.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TextGuidedConfig
from .selective_scan import selective_scan

KERNEL = 4
SMALLEST_STEP, LARGEST_STEP, STEP_FLOOR = 1e-3, 1e-1, 1e-4
"""Of the scan at first, as in Mamba."""


class StateSpaceMixer(nn.Module):
    """(batch, text_length, text_width) to (batch, tokens, width).

    Args:
        config: of the network.
        text_width: of the language model.
        width: of the image's features; even.
        tokens: that the text is mixed into.

    Example:
        >>> mixer = StateSpaceMixer(TextGuidedConfig(), 768, 192, 9)
        >>> mixer(torch.zeros(2, 24, 768)).shape
        torch.Size([2, 9, 192])
    """

    def __init__(self, config: TextGuidedConfig, text_width: int, width: int, tokens: int):
        super().__init__()
        self.product = config.merge == "product"
        self.doubled_bias = config.profile == "released"
        half, rank = config.expansion * width // 2, math.ceil(width / 16)
        self.sizes = [rank, config.state, config.state]
        self.project = nn.Linear(text_width, width)
        self.expand = nn.Linear(width, 2 * half, bias=False)
        self.content_filter = nn.Conv1d(half, half, KERNEL, groups=half, bias=False)
        self.gate_filter = nn.Conv1d(half, half, KERNEL, groups=half, bias=False)
        self.parameters_of_scan = nn.Linear(half, sum(self.sizes), bias=False)
        self.step = nn.Linear(rank, half)
        self.log_decay = nn.Parameter(torch.arange(1.0, config.state + 1).log().repeat(half, 1))
        self.skip = nn.Parameter(torch.ones(half))
        self.pool = nn.Linear(config.text_length, tokens, bias=False)
        _start_step(self.step)

    def forward(
        self,
        text: Float[Tensor, "batch length text_width"],
        keep: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Mix; where `keep` is False a token is padding, and real tokens mix as if the sentence ended before it."""
        inner = self.expand(_without_padding(F.leaky_relu(self.project(text), 0.01), keep))
        content, gate = inner.chunk(2, dim=2)
        content, gate = _filter(self.content_filter, content), _filter(self.gate_filter, gate)
        delta, b, c = self.scan_parameters(content)
        scanned = selective_scan(content, delta, -self.log_decay.exp(), b, c, self.skip)
        merged = scanned * gate if self.product else torch.cat([scanned, gate.to(scanned.dtype)], dim=2)
        return self.pool(_without_padding(merged, keep).transpose(1, 2)).transpose(1, 2)

    def scan_parameters(
        self, content: Float[Tensor, "batch length half"]
    ) -> tuple[
        Float[Tensor, "batch length half"],
        Float[Tensor, "batch length state"],
        Float[Tensor, "batch length state"],
    ]:
        """Step sizes, and how tokens enter and read the states: all follow from the filtered tokens."""
        low, b, c = self.parameters_of_scan(content).split(self.sizes, dim=2)
        with torch.autocast(content.device.type, enabled=False):  # a rounded step is a wrong exponent
            raw = self.step(low.to(self.step.weight.dtype))
            return F.softplus(raw + self.step.bias if self.doubled_bias else raw), b, c


class LinearMixer(nn.Module):
    """The ablation: linear maps along channels and along tokens, in the places of the mixer's first and last.

    Arguments and shapes are those of `StateSpaceMixer`.

    Example:
        >>> LinearMixer(TextGuidedConfig(mixer="linear"), 768, 192, 9)(torch.zeros(2, 24, 768)).shape
        torch.Size([2, 9, 192])
    """

    def __init__(self, config: TextGuidedConfig, text_width: int, width: int, tokens: int):
        super().__init__()
        self.project = nn.Linear(text_width, width)
        self.mix = nn.Linear(width, width, bias=False)
        self.pool = nn.Linear(config.text_length, tokens, bias=False)

    def forward(
        self,
        text: Float[Tensor, "batch length text_width"],
        keep: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch tokens width"]:
        """Mix; where `keep` is False a token is padding and takes no part."""
        mixed = self.mix(F.leaky_relu(self.project(text), 0.01))
        return self.pool(_without_padding(mixed, keep).transpose(1, 2)).transpose(1, 2)


MIXERS = {"ssmix": StateSpaceMixer, "linear": LinearMixer}


def _start_step(step: nn.Linear) -> None:
    """Step sizes softplus(bias) are log-uniform between the smallest and the largest."""
    low, high = math.log(SMALLEST_STEP), math.log(LARGEST_STEP)
    size = torch.empty_like(step.bias).uniform_(low, high).exp().clamp(min=STEP_FLOOR)
    with torch.no_grad():
        step.bias.copy_(size + torch.log(-torch.expm1(-size)))  # the inverse of softplus
    nn.init.uniform_(step.weight, -(step.in_features**-0.5), step.in_features**-0.5)


def _filter(convolution: nn.Conv1d, x: Tensor) -> Tensor:
    """Along the tokens, from the one before to two after: "same" padding of an even kernel as torch does it."""
    return convolution(F.pad(x.transpose(1, 2), (1, 2))).transpose(1, 2).tanh()


def _without_padding(x: Tensor, keep: Tensor | None) -> Tensor:
    return x if keep is None else x.masked_fill(~keep.unsqueeze(2), 0.0)
