"""The learned ranking map: the paper's fixed mixture, the logarithm of doubt, and what a small network adds."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...heads.tapped import pointwise

ENERGY_UNIT = 1e-3
"""Epistemic and residual maps are of this order before training (spec 18), so the network sees ln(1 + map / unit)."""
DOUBT_UNIT = 5.0
"""Logarithmic doubt runs from 0 to about -20; divided by this it is of the other inputs' order."""


class LearnedCombiner(nn.Module):
    """What is added to the paper's ranking map, voxel by voxel; before training ln(1 - max p), else nothing.

    The paper's map gives confidence a fixed positive weight, so it can hardly overrule a confidently wrong
    network (spec 15.1.3), and it spans so little that the first optimiser steps shuffle the many voxels whose margin
    is close to 1. The logarithm of doubt keeps these apart, so the map starts with the softmax's order. It also sees
    the probes, each divided by the length of its direction, so that the scale shared between direction, sigma and
    readout does not matter.

    Args:
        probes: how many responses there are.
        hidden: width of the two hidden layers.
    """

    INPUTS = 7

    def __init__(self, probes: int, hidden: int):
        super().__init__()
        self.first = nn.Linear(self.INPUTS + probes, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 1)
        self.straight = nn.Linear(self.INPUTS + probes, 1, bias=False)
        for tensor in (self.last.weight, self.last.bias, self.straight.weight):
            nn.init.zeros_(tensor)
        with torch.no_grad():
            self.straight.weight[0, self.INPUTS - 1] = DOUBT_UNIT

    def forward(
        self,
        epi: Float[Tensor, "batch voxels"],
        res: Float[Tensor, "batch voxels"],
        calibration: Float[Tensor, "batch voxels"],
        entropy_n: Float[Tensor, "batch voxels"],
        weight: Float[Tensor, "batch voxels"],
        margin: Float[Tensor, "batch voxels"],
        doubt: Float[Tensor, "batch voxels"],
        unit_probes: Float[Tensor, "batch probes voxels"],
    ) -> Float[Tensor, "batch voxels"]:
        """The correction to the ranking map, in its units."""
        energies = [torch.log1p(epi / ENERGY_UNIT), torch.log1p(res / ENERGY_UNIT), torch.log1p(calibration)]
        x = torch.cat(
            [torch.stack([*energies, entropy_n, weight, margin, doubt / DOUBT_UNIT], dim=1), unit_probes],
            dim=1,
        )
        hidden = F.gelu(pointwise(self.second, F.gelu(pointwise(self.first, x))))
        return (pointwise(self.last, hidden) + pointwise(self.straight, x))[:, 0]
