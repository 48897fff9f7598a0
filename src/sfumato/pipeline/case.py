"""One case: image in, segmentation, calibrated probability and doubt out, on the file's own grid.

Windows are blended in what is linear (logits and the estimator's responses); everything else is computed once from
the blended values, a chunk of planes at a time, and kept in compact types.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..decision import DecisionRule
from ..imaging import Image
from ..interfaces import Method
from ..measures.aggregate import region_sums, score_from_sums
from ..segmenters.wrap import FrozenSegmenter
from ..types import Batch, Kind, Segmentation
from .memory import MemoryPlan, check_memory, chunk_planes, plan_memory
from .prepare import Prepared, prepare_image
from .result import CaseResult
from .windows import WindowPlan, blended_slabs, plan_windows


@dataclass(frozen=True)
class PredictOptions:
    """How to run a case.

    Args:
        overlap: least share of a window that its neighbour covers too.
        window_batch: windows per call of the network.
        float32: keep and write maps as float32 instead of uint8 and float16.
        max_ram: GiB a case may take beyond image and network; None does not check.
    """

    overlap: float = 0.5
    window_batch: int = 1
    float32: bool = False
    max_ram: float | None = None


def predict_image(
    method: Method,
    image: Image,
    rule: DecisionRule | None = None,
    options: PredictOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> CaseResult:
    """Segment one image and say where the result may be wrong.

    Args:
        method: fitted, its segmenter wrapped by `sfumato.segmenters.wrap`.
        image: as read by `sfumato.imaging.read_image`.
        rule: accepts the case or sends it to review.
        options: overlap, types, memory limit.
        say: receives the memory plan.

    Raises:
        InputError: an image that does not fit the segmenter.
        ConfigError: a case larger than `options.max_ram`.
    """
    options = options or PredictOptions()
    start = time.perf_counter()
    segmenter = method.segmenter
    assert isinstance(segmenter, FrozenSegmenter)
    prepared = prepare_image(image, segmenter.spec)
    plan = plan_windows(
        prepared.array.shape[1:], segmenter.spec.window, segmenter.spec.divisor, options.overlap
    )
    memory = plan_case(method, plan, options)
    say(f"{image.name}: {memory.say()}")
    check_memory(memory, options.max_ram, image.name)
    found = _Results(method, plan.grid, options.float32)
    for chunk in _chunks(method, prepared, plan, options.window_batch):
        found.add(*chunk)
    return _on_file_grid(method, found, prepared, image, rule, time.perf_counter() - start)


def plan_case(method: Method, plan: WindowPlan, options: PredictOptions) -> MemoryPlan:
    """The memory a case of this window plan takes; the estimator is asked once, on a small image, what it blends."""
    segmenter = method.segmenter
    assert isinstance(segmenter, FrozenSegmenter)
    probe = segmenter.blank_batch()
    responses = method.estimator.respond(probe, segmenter.segment(probe))
    maps = len([k for k in method.spec.maps if k is not Kind.ERROR])
    count = sum(r.shape[1] for r in responses.values())
    return plan_memory(plan, segmenter.spec, count, maps, options.float32)


def _chunks(
    method: Method, prepared: Prepared, plan: WindowPlan, window_batch: int
) -> Iterator[tuple[int, int, Batch, Segmentation]]:
    """Blended pieces of a few planes: (axis, first plane, image, segmentation with responses as features)."""
    segmenter = method.segmenter

    def run(windows: Tensor) -> dict[str, Tensor]:
        batch = Batch(windows)
        with torch.inference_mode():
            segmentation = segmenter.segment(batch)
            return {"logits": segmentation.logits, **method.estimator.respond(batch, segmentation)}

    assert isinstance(segmenter, FrozenSegmenter)
    axis = plan.axis
    size = chunk_planes(int(np.prod(plan.grid)) // plan.grid[axis])
    for first, slab in blended_slabs(prepared.array, plan, run, window_batch, size):
        part = {name: value.float().unsqueeze(0) for name, value in slab.items()}
        index = [slice(None)] * prepared.array.ndim
        index[1 + axis] = slice(first, first + part["logits"].shape[2 + axis])
        batch = Batch(torch.from_numpy(prepared.array[tuple(index)]).unsqueeze(0))
        yield axis, first, batch, Segmentation(part.pop("logits"), segmenter.spec.link, part)


class _Results:
    """Finished maps on the network's grid, filled chunk by chunk."""

    def __init__(self, method: Method, grid: tuple[int, ...], float32: bool):
        assert isinstance(method.segmenter, FrozenSegmenter)
        classes = len(method.segmenter.spec.classes)
        code = np.float32 if float32 else np.uint8
        self.estimator = method.estimator
        self.segmentation = np.zeros(grid, np.uint8 if classes <= 256 else np.uint16)
        self.probability = np.zeros((classes, *grid), code)
        self.maps = {
            kind: np.zeros(grid, code if kind is Kind.ERROR else np.float32 if float32 else np.float16)
            for kind in method.spec.maps
        }
        self.sums = {kind: torch.zeros(1, 4, dtype=torch.float64) for kind in method.spec.scores}

    def take(self, name: str) -> np.ndarray:
        """Hand an array on and forget it."""
        return self.__dict__.pop(name)

    def add(self, axis: int, first: int, batch: Batch, segmentation: Segmentation) -> None:
        with torch.inference_mode():
            uncertainty = self.estimator.estimate(batch, segmentation)
            probability = segmentation.probability(uncertainty.temperature)
            labels = segmentation.labels()
        place = [slice(None)] * self.segmentation.ndim
        place[axis] = slice(first, first + labels.shape[1 + axis])
        self.segmentation[tuple(place)] = labels[0].numpy()
        self.probability[(slice(None), *place)] = _store(probability[0].numpy(), self.probability.dtype)
        for kind, array in self.maps.items():
            array[tuple(place)] = _store(uncertainty.maps[kind][0].numpy(), array.dtype)
        for kind, sums in self.sums.items():
            sums += region_sums(uncertainty.maps[kind], labels)


def _store(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    return np.rint(values * 255.0).astype(np.uint8) if kind == np.uint8 else values.astype(kind)


def _on_file_grid(
    method: Method,
    found: _Results,
    prepared: Prepared,
    image: Image,
    rule: DecisionRule | None,
    seconds: float,
) -> CaseResult:
    segmenter = method.segmenter
    assert isinstance(segmenter, FrozenSegmenter)
    scores = {kind: float(score_from_sums(kind, sums)[0]) for kind, sums in found.sums.items()}
    grid = prepared.grid
    segmentation = grid.to_file(found.take("segmentation")[None], order=0)[0]
    probability = grid.to_file(found.take("probability"), order=1)
    # One by one, each network-grid map let go before the next is turned: memory holds them once.
    maps = {kind: grid.to_file(found.maps.pop(kind)[None], order=1)[0] for kind in tuple(found.maps)}
    decision = rule.decide(scores[Kind(rule.kind)]) if rule is not None else None
    volumes = _volumes(segmentation, probability, segmenter.spec.classes, image.geometry.voxel_ml)
    warnings = () if segmentation.any() else ("Nothing was segmented: the prediction is empty.",)
    return CaseResult(
        image,
        segmenter.spec.classes,
        segmentation,
        probability,
        maps,
        scores,
        volumes,
        decision,
        warnings,
        seconds,
    )


def _volumes(
    segmentation: np.ndarray, probability: np.ndarray, classes: tuple[str, ...], voxel_ml: float
) -> dict[str, tuple[float, float]]:
    scale = 255.0 if probability.dtype == np.uint8 else 1.0
    return {
        name: (
            np.count_nonzero(segmentation == c) * voxel_ml,
            float(probability[c].sum(dtype=np.float64)) / scale * voxel_ml,
        )
        for c, name in enumerate(classes)
        if c > 0
    }
