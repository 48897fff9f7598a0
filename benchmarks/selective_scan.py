"""The selective scan beside its formula as a loop, forward and backward, and what a whole text-guided network costs.

The loop comes as it is usually written, and in a form that spares autograd the square of the length. All sides get the
same sequences; outputs and gradients must agree or the benchmark fails. Peak memory is what one forward and backward
adds in a fresh process that already holds the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sfumato.methods.text_guided.selective_scan import selective_scan

from .measure import machine, peak_memory, timed
from .rivals.selective_scan import selective_scan_loop, selective_scan_split_loop

BATCH, CHANNELS, STATE = 8, 384, 16
LENGTHS = (24, 256, 1024)
AGREEMENT, GRADIENT_AGREEMENT = 1e-5, 1e-4
SIDES = {"loop": selective_scan_loop, "split_loop": selective_scan_split_loop, "ours": selective_scan}


def make_inputs(length: int) -> tuple[Tensor, ...]:
    """x, delta, a, b, c and d as a mixer with fresh weights would give them, seeded."""
    generator = torch.Generator().manual_seed(0)

    def normal(width: int) -> Tensor:
        return torch.randn(BATCH, length, width, generator=generator)

    delta = F.softplus(normal(CHANNELS) - 4)
    a = -torch.arange(1.0, STATE + 1).repeat(CHANNELS, 1)
    given = (normal(CHANNELS).tanh(), delta, a, normal(STATE), normal(STATE), torch.ones(CHANNELS))
    return tuple(v.requires_grad_() for v in given)


def prepare(side: str, length: int) -> Callable[[], tuple[Tensor, ...]]:
    """A call of one side: its output and the gradients of the output's squared sum."""
    given = make_inputs(length)

    def call() -> tuple[Tensor, ...]:
        output = SIDES[side](*given)
        return output.detach(), *torch.autograd.grad(output.square().sum(), given)

    return call


def largest_differences(length: int) -> tuple[float, float]:
    """Of the outputs, and of the gradients, each relative to its largest value or 1."""
    pairs = zip(prepare("ours", length)(), prepare("loop", length)(), strict=True)
    output, *gradients = [float((o - r).abs().max() / r.abs().max().clamp(min=1)) for o, r in pairs]
    return output, max(gradients)


def prepare_network(side: int) -> Callable[[], Any]:
    """A prediction of the paper's network for one image of side x side and one sentence of 24 tokens."""
    from sfumato.methods.text_guided.config import TextGuidedConfig
    from sfumato.methods.text_guided.image_encoder import build_image_encoder
    from sfumato.methods.text_guided.model import TextGuidedNetwork

    torch.manual_seed(0)
    config = TextGuidedConfig(image_encoder="convnext_tiny")
    network = TextGuidedNetwork(build_image_encoder(config.image_encoder), config).eval()
    image, text = torch.randn(1, 3, side, side), torch.randn(1, 24, 768)
    return torch.no_grad()(lambda: network(image, text))


def run(repeats: int = 5, size: tuple[int, ...] = (224,)) -> dict[str, Any]:
    """Measure all sides at every length, and the network's prediction; `size` is the side of its image."""
    torch.set_num_threads(1)
    rows, ratios = [], {}
    for length in LENGTHS:
        output, gradient = largest_differences(length)
        if output > AGREEMENT or gradient > GRADIENT_AGREEMENT:
            raise SystemExit(
                f"ours and the loop differ by {output:.2e} and in the gradients by {gradient:.2e} at {length} tokens, "
                f"expected at most {AGREEMENT} and {GRADIENT_AGREEMENT}"
            )
        cost, memory = {}, {}
        for name in SIDES:
            row = timed(prepare(name, length), repeats)
            cost[name], memory[name] = row["cpu_min"], peak_memory(prepare, name, length)
            rows.append({"side": f"{name}, {length} tokens", **row, "peak_mib": memory[name] / 2**20})
        for name in ("loop", "split_loop"):
            ratios[f"scan_vs_{name}_{length}"] = cost[name] / cost["ours"]
            ratios[f"scan_vs_{name}_{length}_memory"] = memory[name] / memory["ours"]
    network = timed(prepare_network(size[0]), repeats)
    peak = peak_memory(prepare_network, size[0]) / 2**20
    rows.append({"side": f"network, {size[0]} x {size[0]}", **network, "peak_mib": peak})
    return {"name": "selective_scan", "machine": machine(), "rows": rows, "ratios": ratios}
