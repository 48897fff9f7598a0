"""The slow twin: the paper's formulas written down one after the other, for tests and benchmarks.

Nothing is shared with the fast path but the parameters. Perturbed softmaxes are stacked, R + 1 read-outs are taken
one by one, and every map stays in memory, as in the paper's released code (spec 4, our own transcription).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .head import PerturbationHead


def reference_parameters(head: PerturbationHead) -> dict[str, Tensor]:
    """The tensors of a head under the paper's letters, detached."""
    found = {
        "U": head.probes.weight.flatten(1),
        "W": head.readout.weight,
        "alpha": head.raw_scale,
        "k": head.calibration.weight[0],
        "b_k": head.calibration.bias[0],
        "a": head.ranking_gain,
        "b": head.ranking_shift,
        "c": head.ranking_extra,
    }
    if head.aleatoric is not None:
        assert head.aleatoric.bias is not None
        found |= {"a_ale": head.aleatoric.weight.flatten(), "b_ale": head.aleatoric.bias[0]}
    return {name: value.detach() for name, value in found.items()}


def reference_forward(
    features: Tensor,
    logits: Tensor,
    parameters: Mapping[str, Tensor],
    patterns: Tensor,
    gamma: float = 4.0,
    global_temperature: float = 1.0,
) -> dict[str, Tensor]:
    """All of the paper's maps from the fused feature.

    Args:
        features: f, (batch, F, *grid).
        logits: z, (batch, classes, *grid).
        parameters: see `reference_parameters`; without `a_ale` there is no aleatoric branch.
        patterns: (patterns, R) signs.
        gamma: of the ambiguity weight.
        global_temperature: T0; 1 in the paper.

    Returns:
        Named maps (batch, *grid); `v` (batch, R, *grid), `delta` and `tempered` (batch, classes, *grid), and
        `perturbed` (patterns, batch, classes, *grid).
    """
    axes = (1, -1, *[1] * (logits.dim() - 2))
    v = [(u.reshape(axes) * features).sum(1) for u in parameters["U"]]
    maps = perturbed_maps(v, logits, parameters, patterns)
    p = torch.exp(logits - torch.logsumexp(logits, 1, keepdim=True))
    ordered = torch.sort(p, dim=1, descending=True).values
    maps["m"] = ordered[:, 0] - ordered[:, 1]
    maps["w"] = torch.exp(-gamma * maps["m"])
    maps["H"] = -(p * torch.log(p.clamp_min(1e-12))).sum(1)
    inputs = [torch.log(1 + maps["epi"] + maps["res"])]
    if "a_ale" in parameters:
        raw = (parameters["a_ale"].reshape(axes) * features).sum(1) + parameters["b_ale"]
        maps["ale"] = _softplus(raw)
        inputs.append(torch.log(1 + maps["ale"]))
    inputs.append(maps["m"])
    maps["U_cal"] = _softplus(
        sum((k * x for k, x in zip(parameters["k"], inputs, strict=True)), parameters["b_k"])
    )
    maps["T"] = global_temperature * torch.sqrt(1 + maps["U_cal"]).clamp_min(1)
    maps["tempered"] = torch.softmax(logits / maps["T"].unsqueeze(1), 1)
    return maps | reference_ranking(maps, logits.shape[1], parameters)


def perturbed_maps(
    v: Sequence[Tensor], logits: Tensor, parameters: Mapping[str, Tensor], patterns: Tensor
) -> dict[str, Tensor]:
    """Delta, res, the stacked perturbed softmaxes and epi (spec 4.1 to 4.3)."""
    axes = (1, -1, *[1] * (logits.dim() - 2))
    sigma = _softplus(parameters["alpha"]) + 1e-6

    def perturb(signs: Sequence[float]) -> Tensor:
        total = torch.zeros_like(logits)
        for r, sign in enumerate(signs):
            total = total + sign * sigma[r] * v[r].unsqueeze(1) * parameters["W"][:, r].reshape(axes)
        return total

    delta = perturb([1.0] * len(v))
    q = torch.stack([torch.softmax(logits + perturb(row), 1) for row in patterns.tolist()])
    return {
        "v": torch.stack(list(v), 1),
        "delta": delta,
        "res": (delta**2).sum(1) / logits.shape[1],
        "perturbed": q,
        "epi": ((q - q.mean(0)) ** 2).mean(0).sum(1),
    }


def reference_ranking(
    maps: Mapping[str, Tensor], classes: int, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A and U_rnk (spec 4.7)."""
    h_n = maps["H"] / max(math.log(classes), 1)
    anchor = (
        torch.log(1 + maps["epi"]) + 0.5 * torch.log(1 + maps["res"]) + 0.25 * torch.log(1 + maps["U_cal"])
    )
    anchor = anchor + 0.25 * h_n + maps["w"]
    gain = 1 + 0.1 * torch.tanh(parameters["a"])
    return {"A": anchor, "U_rnk": gain * anchor + parameters["b"] + _softplus(parameters["c"]) * maps["w"]}


def reference_pairwise(score: Tensor, wrong: Tensor, tau: float = 1.0) -> Tensor:
    """The pairwise loss over all pairs instead of drawn ones (spec 5, term 3)."""
    scaled = (score - score.mean()) / (score.std(unbiased=False) + 1e-6)
    terms = [_softplus((n - p) / tau) for p in scaled[wrong] for n in scaled[~wrong]]
    return torch.stack(terms).mean() if terms else score.sum() * 0


def _softplus(x: Tensor) -> Tensor:
    return torch.log1p(torch.exp(-x.abs())) + x.clamp_min(0)
