"""The SegWithU head's cost over its frozen backbone, beside a literal transcription of its formulas.

The backbone is MONAI's DynUNet with the taps of SegWithU's experiments. Both heads have the same weights; their maps
must agree to 1e-5 or the benchmark fails. Peak memory is what one call adds in a fresh process that already holds
taps and logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sfumato.methods.perturbation_head.config import PerturbationHeadConfig
from sfumato.methods.perturbation_head.head import PerturbationHead
from sfumato.segmenters import FrozenSegmenter, build_preset, wrap
from sfumato.types import Batch, Link, Segmentation

from .measure import machine, peak_memory, timed
from .rivals.segwithu_head import SegWithUHead

SIZE = (64, 128, 128)
CLASSES = 4
WIDTHS = {"upsamples.1.conv_block:input": 256, "upsamples.2.conv_block:input": 128, "output_block:input": 32}
COARSENESS = (4, 2, 1)
AGREEMENT = 1e-5


def make_inputs(size: tuple[int, ...]) -> Segmentation:
    """Taps and logits as the backbone would give them, seeded."""
    generator = torch.Generator().manual_seed(0)
    features = {
        name: torch.randn(1, width, *(n // c for n in size), generator=generator)
        for (name, width), c in zip(WIDTHS.items(), COARSENESS, strict=True)
    }
    logits = 3 * torch.randn(1, CLASSES, *size, generator=generator)
    return Segmentation(logits, Link.SOFTMAX, features)


def make_heads() -> tuple[PerturbationHead, SegWithUHead]:
    """Ours in the paper's setting, and the transcription with the same weights."""
    torch.manual_seed(0)
    rival = SegWithUHead(list(WIDTHS.values()), CLASSES).eval()
    ours = PerturbationHead(PerturbationHeadConfig.paper(), WIDTHS, CLASSES, 3).eval()
    renamed = {"gain": "ranking_gain", "shift": "ranking_shift", "extra": "ranking_extra"}
    fusion = ("projections", "first", "second")
    state = ours.state_dict()
    for name, value in rival.state_dict().items():
        target = renamed.get(name, f"fusion.{name}" if name.startswith(fusion) else name)
        state[target] = value.reshape(state[target].shape)
    ours.load_state_dict(state)
    return ours, rival


def call_ours(size: tuple[int, ...]) -> Callable[[], Any]:
    """A call of our head on fresh inputs."""
    return _ours(make_heads()[0], make_inputs(size))


def call_rival(size: tuple[int, ...]) -> Callable[[], Any]:
    """A call of the transcription on fresh inputs."""
    rival, inputs = make_heads()[1], make_inputs(size)
    return lambda: rival(list(inputs.features.values()), inputs.logits)


def _ours(head: PerturbationHead, inputs: Segmentation) -> Callable[[], Any]:
    batch = Batch(inputs.logits[:, :1])

    def call() -> Any:
        responses = head.respond(batch, inputs)
        return head.estimate(batch, Segmentation(inputs.logits, inputs.link, responses))

    return call


def largest_difference(size: tuple[int, ...]) -> float:
    """Of all maps that both sides give, relative to 1."""
    ours, rival = call_ours(size)(), call_rival(size)()
    named = {kind.value: value for kind, value in ours.maps.items()} | {"temperature": ours.temperature}
    shared = [name for name in named if name in rival]
    return max(float((named[name] - rival[name][:, 0]).abs().max()) for name in shared)


def run(repeats: int = 5, size: tuple[int, ...] = SIZE) -> dict[str, Any]:
    """Measure backbone, transcription, ours, and the cheaper fusions, all in this run."""
    torch.set_num_threads(1)
    backbone = _backbone(size)
    image = Batch(torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0)))
    calls = {
        "backbone": lambda: backbone.segment(image),
        "transcription": call_rival(size),
        "ours": call_ours(size),
        "ours, light fusion": _ours(_head(fusion="light"), make_inputs(size)),
    }
    rows = [{"side": name, **timed(call, repeats), "gflop": _gigaflops(call)} for name, call in calls.items()]
    for row, prepare in zip(rows[1:3], (call_rival, call_ours), strict=True):
        row["peak_mib"] = max(peak_memory(prepare, size), 1 << 16) / 2**20  # below 64 KiB nothing is seen
    cost = {row["side"]: row["cpu_min"] for row in rows}
    difference = largest_difference(size)
    if difference > AGREEMENT:
        raise SystemExit(
            f"ours and the transcription differ by {difference:.2e}, expected at most {AGREEMENT}"
        )
    return {
        "name": "head_overhead",
        "machine": machine(),
        "size": list(size),
        "largest_difference": difference,
        "rows": rows,
        "ratios": {
            "transcription_over_ours_cpu": cost["transcription"] / cost["ours"],
            "transcription_over_ours_memory": rows[1]["peak_mib"] / rows[2]["peak_mib"],
            "head_over_backbone_cpu": cost["ours"] / cost["backbone"],
            "light_head_over_backbone_cpu": cost["ours, light fusion"] / cost["backbone"],
        },
    }


def _head(**changes: Any) -> PerturbationHead:
    return PerturbationHead(PerturbationHeadConfig.paper(**changes), WIDTHS, CLASSES, 3).eval()


def _backbone(size: tuple[int, ...]) -> FrozenSegmenter:
    network = build_preset("dynunet3d", 1, CLASSES)
    return wrap(network, CLASSES, spatial_dims=3, divisor=16, window=size, taps=tuple(WIDTHS))


def _gigaflops(call: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops() / 1e9
