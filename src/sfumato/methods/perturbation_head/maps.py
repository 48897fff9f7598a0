"""The voxel maps of the method as pure functions: no parameters, no state, any grid, float32 inside.

Names follow the paper: z logits (batch, classes, *grid), p = softmax(z), v probe responses (batch, R, *grid),
sigma scales (R,), W readout (classes, R), Delta = W diag(s * sigma) v a perturbation of the logits.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int8
from torch import Tensor
from torch.nn import functional as F

from ...measures.entropy import entropy

SCALE_FLOOR = 1e-6
INITIAL_SCALE = 0.1


def probe_scales(raw: Float[Tensor, "probes"]) -> Float[Tensor, "probes"]:
    """sigma = softplus(alpha) + 1e-6, one per probe (spec 4.1)."""
    return F.softplus(raw) + SCALE_FLOOR


def perturbation(
    probes: Float[Tensor, "batch probes *grid"], coefficients: Float[Tensor, "classes probes"]
) -> Float[Tensor, "batch classes *grid"]:
    """Delta = M v for M = W diag(s * sigma): what the probes add to the logits."""
    return torch.einsum("cr,br...->bc...", coefficients, probes)


def residual(
    delta: Float[Tensor, "batch classes *grid"], centred: bool = False
) -> Float[Tensor, "batch *grid"]:
    """res = mean over classes of Delta^2 (spec 4.2), the perturbation's energy.

    Args:
        delta: the perturbation for coefficients all +1.
        centred: first subtract the mean over classes, which no probability can see (spec 15.1.4).
    """
    if centred:
        delta = delta - delta.mean(dim=1, keepdim=True)
    return delta.square().mean(dim=1)


def expected_residual(
    probes: Float[Tensor, "batch probes *grid"],
    scales: Float[Tensor, "probes"],
    readout: Float[Tensor, "classes probes"],
    centred: bool = False,
) -> Float[Tensor, "batch *grid"]:
    """Expected energy over coefficients with identity covariance: (1/C) sum_r sigma_r^2 v_r^2 |w_r|^2 (15.1.5)."""
    if centred:
        readout = readout - readout.mean(dim=0, keepdim=True)
    factors = scales.square() * readout.square().sum(dim=0) / readout.shape[0]
    return torch.einsum("r,br...->b...", factors, probes.square())


def epistemic(
    logits: Float[Tensor, "batch classes *grid"],
    probes: Float[Tensor, "batch probes *grid"],
    scales: Float[Tensor, "probes"],
    readout: Float[Tensor, "classes probes"],
    patterns: Int8[Tensor, "patterns probes"],
) -> Float[Tensor, "batch *grid"]:
    """epi = sum over classes of the population variance of softmax(z + Delta(s)) over the patterns (spec 4.3).

    Streamed: two running sums of the deviation from p, so memory does not grow with the number of patterns.
    In [0, 1 - 1/C).

    Example:
        >>> z, v = torch.tensor([2.0, 1.0, 0.0]).reshape(1, 3, 1), torch.tensor([1.0, 2.0]).reshape(1, 2, 1)
        >>> w, s = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), torch.tensor([0.1, 0.1])
        >>> round(epistemic(z, v, s, w, torch.tensor([[1, -1], [-1, 1]], dtype=torch.int8)).item(), 6)
        0.006355
    """
    grid = logits.shape[2:]
    logits, probes = logits.flatten(2), probes.flatten(2)
    probability = torch.softmax(logits, dim=1)
    total, squares = torch.zeros_like(probability), torch.zeros_like(probability)
    for signs in patterns:
        coefficients = (readout * (scales * signs.to(scales.dtype))).expand(len(logits), -1, -1)
        deviation = torch.softmax(torch.baddbmm(logits, coefficients, probes), dim=1) - probability
        total.add_(deviation)
        squares.addcmul_(deviation, deviation)
    count = patterns.shape[0]
    return (squares / count - (total / count).square()).sum(dim=1).clamp_min(0.0).unflatten(1, grid)


def epistemic_first_order(
    logits: Float[Tensor, "batch classes *grid"],
    probes: Float[Tensor, "batch probes *grid"],
    scales: Float[Tensor, "probes"],
    readout: Float[Tensor, "classes probes"],
) -> Float[Tensor, "batch *grid"]:
    """The limit of `epistemic` for small sigma and patterns with identity covariance, in closed form (15.1.6).

    sum_r sigma_r^2 v_r^2 |J w_r|^2 with J = diag(p) - p p^T the softmax's Jacobian; no sampling.
    """
    probability = torch.softmax(logits, dim=1)
    result = torch.zeros_like(probability[:, 0])
    for r in range(scales.shape[0]):
        column = readout[:, r].reshape(1, -1, *[1] * (logits.dim() - 2))
        slope = probability * (column - (probability * column).sum(dim=1, keepdim=True))
        result = result + (scales[r] * probes[:, r]).square() * slope.square().sum(dim=1)
    return result


def ambiguity(margin: Float[Tensor, "batch *grid"], gamma: float) -> Float[Tensor, "batch *grid"]:
    """w = exp(-gamma m) of the top-two probability margin m, in [e^-gamma, 1] (spec 4.4)."""
    return torch.exp(-gamma * margin)


def normalised_entropy(probability: Float[Tensor, "batch classes *grid"]) -> Float[Tensor, "batch *grid"]:
    """H_n = H / max(ln C, 1), H the entropy in nats (spec 4.4); at most ln 2 for two classes."""
    return entropy(probability) / max(math.log(probability.shape[1]), 1.0)


def temperature(
    calibration: Float[Tensor, "batch *grid"], global_temperature: Tensor | float = 1.0
) -> Float[Tensor, "batch *grid"]:
    """T = T0 max(sqrt(1 + U_cal), 1) (spec 4.6; T0 from 15.1.2, 1 in the paper). Divides the logits.

    Example:
        >>> round(temperature(torch.tensor([[0.6931472]])).item(), 6)
        1.30121
    """
    return global_temperature * torch.sqrt(1 + calibration).clamp_min(1.0)


def anchor(
    epi: Float[Tensor, "batch *grid"],
    res: Float[Tensor, "batch *grid"],
    calibration: Float[Tensor, "batch *grid"],
    entropy_n: Float[Tensor, "batch *grid"],
    weight: Float[Tensor, "batch *grid"],
) -> Float[Tensor, "batch *grid"]:
    """A = ln(1+epi) + ln(1+res)/2 + ln(1+U_cal)/4 + H_n/4 + w, fixed coefficients (spec 4.7)."""
    return (
        torch.log1p(epi)
        + 0.5 * torch.log1p(res)
        + 0.25 * torch.log1p(calibration)
        + 0.25 * entropy_n
        + weight
    )


def ranking(
    anchor_map: Float[Tensor, "batch *grid"],
    weight: Float[Tensor, "batch *grid"],
    gain: Tensor,
    shift: Tensor,
    extra: Tensor,
) -> Float[Tensor, "batch *grid"]:
    """U_rnk = (1 + tanh(a)/10) A + b + softplus(c) w (spec 4.7)."""
    return (1 + 0.1 * torch.tanh(gain)) * anchor_map + shift + F.softplus(extra) * weight
