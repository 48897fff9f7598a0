"""SegWithU's head as the method's description reads, line by line (arXiv 2604.15271).

Every tap is brought to full resolution before it is convolved, every sign pattern has its own pass through the
read-out, all perturbed probabilities are stacked before their variance is taken, and every map is computed and kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIGNS = (
    (1, 1, 1, 1, -1, -1, -1, -1),
    (1, 1, -1, -1, -1, -1, 1, 1),
    (1, -1, -1, -1, 1, 1, 1, -1),
    (1, -1, -1, 1, 1, -1, -1, 1),
    (1, -1, 1, 1, -1, -1, 1, -1),
    (1, -1, 1, -1, -1, 1, -1, 1),
    (1, -1, 1, -1, 1, -1, 1, -1),
    (-1, 1, -1, 1, -1, 1, -1, 1),
)
"""Sign patterns for eight probes, as float32 gives them."""
GAMMA = 4.0


class SegWithUHead(nn.Module):
    """Fusion at full resolution, probes and all maps, for volumes.

    Args:
        widths: channels of the taps.
        classes: of the logits.
        width: fused channels.
    """

    def __init__(self, widths: Sequence[int], classes: int, width: int = 32):
        super().__init__()
        probes = len(SIGNS)
        self.projections = nn.ModuleList(nn.Conv3d(w, width, 1, bias=False) for w in widths)
        self.first = nn.Conv3d(len(widths) * width, width, 3, padding=1, bias=False)
        self.first_norm = nn.InstanceNorm3d(width, affine=True)
        self.second = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.InstanceNorm3d(width, affine=True)
        self.probes = nn.Conv3d(width, probes, 1, bias=False)
        self.readout = nn.Conv3d(probes, classes, 1, bias=False)
        self.raw_scale = nn.Parameter(torch.full((probes,), math.log(math.expm1(0.1))))
        self.aleatoric = nn.Conv3d(width, 1, 1)
        self.calibration = nn.Conv3d(3, 1, 1)
        self.gain = nn.Parameter(torch.tensor(1.0))
        self.shift = nn.Parameter(torch.tensor(0.0))
        self.extra = nn.Parameter(torch.tensor(0.0))

    @torch.no_grad()
    def forward(self, taps: Sequence[Tensor], logits: Tensor) -> Mapping[str, Tensor]:
        """All outputs, (batch, maps, *grid) each."""
        fused = self.fuse(taps)
        v = self.probes(fused)
        sigma = F.softplus(self.raw_scale) + 1e-6
        delta = self.perturbation(v, sigma, torch.ones_like(sigma))
        res = delta.square().mean(dim=1, keepdim=True)
        perturbed = [
            torch.softmax(logits + self.perturbation(v, sigma, s), dim=1) for s in torch.tensor(SIGNS).to(v)
        ]
        epi = torch.stack(perturbed).var(dim=0, unbiased=False).sum(dim=1, keepdim=True)
        return {"probes": v, "delta": delta, "epistemic": epi, "residual": res} | self.maps(
            fused, v, logits, epi, res
        )

    def fuse(self, taps: Sequence[Tensor]) -> Tensor:
        """Project, resize to the largest grid, concatenate; twice convolve, normalise, GELU."""
        grid = max((t.shape[2:] for t in taps), key=lambda g: g.numel())
        projected = [p(t) for p, t in zip(self.projections, taps, strict=True)]
        projected = [
            t if t.shape[2:] == grid else F.interpolate(t, size=grid, mode="trilinear", align_corners=False)
            for t in projected
        ]
        x = F.gelu(self.first_norm(self.first(torch.cat(projected, dim=1))))
        return F.gelu(self.second_norm(self.second(x)))

    def perturbation(self, v: Tensor, sigma: Tensor, signs: Tensor) -> Tensor:
        """Delta(s) = W diag(s sigma) v."""
        return self.readout(v * (signs * sigma).view(1, -1, 1, 1, 1))

    def maps(self, fused: Tensor, v: Tensor, logits: Tensor, epi: Tensor, res: Tensor) -> dict[str, Tensor]:
        """What follows from the energies and the frozen logits."""
        probability = torch.softmax(logits, dim=1)
        top = probability.topk(2, dim=1).values
        margin = top[:, :1] - top[:, 1:]
        weight = torch.exp(-GAMMA * margin)
        entropy = -(probability * probability.clamp_min(1e-12).log()).sum(dim=1, keepdim=True)
        entropy_n = entropy / max(math.log(logits.shape[1]), 1.0)
        ale = F.softplus(self.aleatoric(fused))
        inputs = torch.cat([torch.log1p(epi + res), torch.log1p(ale), margin], dim=1)
        calibration = F.softplus(self.calibration(inputs))
        temperature = torch.sqrt(1 + calibration).clamp_min(1.0)
        anchor = (
            torch.log1p(epi)
            + 0.5 * torch.log1p(res)
            + 0.25 * torch.log1p(calibration)
            + 0.25 * entropy_n
            + weight
        )
        ranking = (1 + 0.1 * torch.tanh(self.gain)) * anchor + self.shift + F.softplus(self.extra) * weight
        return {
            "aleatoric": ale,
            "calibration": calibration,
            "temperature": temperature,
            "ranking": ranking,
            "weight": weight,
            "margin": margin,
            "entropy": entropy,
            "anchor": anchor,
            "probe_energy": v.square().mean(dim=1, keepdim=True),
        }
