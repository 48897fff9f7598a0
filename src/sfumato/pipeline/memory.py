"""How much memory a case will take, computed before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..segmenters.spec import SegmenterSpec
from .windows import WindowPlan

FINISHED = {"labels": 1, "probability": 1, "error": 1, "map": 2}
"""Bytes per voxel of finished results: uint8 labels, uint8 per class, uint8 error, float16 per further map."""
FINISHED_FLOAT = {"labels": 1, "probability": 4, "error": 4, "map": 4}
WORKING = 400
"""Bytes of temporaries per voxel of the chunk of planes that is turned into maps, whatever the image's size."""
CHUNK = 1 << 14
"""Voxels of such a chunk, at least one plane."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that one case needs beyond the input image and the network's own activations.

    Args:
        voxels: of the grid.
        finished: bytes of the results that are kept to the end.
        buffers: bytes of the planes that are being blended.
        waiting: bytes of the results that are not filled, so not yet taken, while those planes are in flight.
        chunk: bytes of temporaries while a chunk of planes is turned into maps.
    """

    voxels: int
    finished: int
    buffers: int
    waiting: int
    chunk: int

    @property
    def total(self) -> int:
        """Bytes at the peak: just before the last planes are handed on, or at the very end."""
        return max(self.finished, self.finished - self.waiting + self.buffers) + self.chunk

    @property
    def bytes_per_voxel(self) -> float:
        """What grows with the image, so without the chunk."""
        return (self.total - self.chunk) / max(1, self.voxels)

    def say(self) -> str:
        """One line for people."""
        return (
            f"memory plan: {self.total / 2**20:.0f} MiB beyond image and network "
            f"({self.bytes_per_voxel:.1f} bytes per voxel of {self.voxels:,})"
        )


def plan_memory(
    plan: WindowPlan, spec: SegmenterSpec, responses: int, maps: int, float32: bool, logits: bool = False
) -> MemoryPlan:
    """What a case of this grid needs.

    Args:
        plan: the windows.
        spec: of the segmenter.
        responses: voxel maps the estimator blends besides the logits.
        maps: result maps besides the error map.
        float32: whether results are kept as float32.
        logits: whether the logits are kept to the end, for scores of the whole grid.
    """
    sizes = FINISHED_FLOAT if float32 else FINISHED
    voxels = int(np.prod(plan.grid))
    plane = voxels // plan.grid[plan.axis]
    side = min(plan.window[plan.axis], plan.grid[plan.axis])
    classes = len(spec.classes)
    finished = voxels * (
        sizes["labels"]
        + classes * sizes["probability"]
        + sizes["error"]
        + maps * sizes["map"]
        + 4 * spec.logit_channels * logits
    )
    half = 2 if plan.count > 1 else 4
    buffers = plane * side * (4 * spec.logit_channels + half * responses)
    waiting = finished * side // plan.grid[plan.axis]
    return MemoryPlan(voxels, finished, buffers, waiting, WORKING * chunk_planes(plane) * plane)


def together(plans: Sequence[MemoryPlan]) -> MemoryPlan:
    """Several methods on one case: their results and responses add up, the chunk is theirs in turn."""
    return MemoryPlan(
        plans[0].voxels,
        sum(p.finished for p in plans),
        sum(p.buffers for p in plans),
        sum(p.waiting for p in plans),
        max(p.chunk for p in plans),
    )


def chunk_planes(plane: int) -> int:
    """Planes turned into maps at once: at most `CHUNK` voxels, but at least one plane."""
    return max(1, CHUNK // max(1, plane))


def check_memory(plan: MemoryPlan, limit_gib: float | None, name: str) -> None:
    """Refuse a case that would not fit.

    Raises:
        ConfigError: says both numbers.
    """
    if limit_gib is not None and plan.total > limit_gib * 2**30:
        raise ConfigError(
            f"{name}: needs {plan.total / 2**30:.2f} GiB beyond image and network, expected at most --max-ram "
            f"{limit_gib:g}; raise it, or crop the image."
        )
