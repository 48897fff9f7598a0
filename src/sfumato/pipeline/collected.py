"""One method's results of one case: collected plane by plane on the network's grid, then brought to the file's."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..decision import DecisionRule
from ..imaging import Image
from ..interfaces import Estimator, Method, ScoresCases, ScoresGrids
from ..measures.aggregate import region_sums, score_from_sums
from ..segmenters.wrap import FrozenSegmenter
from ..types import Batch, Kind, Segmentation
from .prepare import Prepared
from .result import CaseResult


class Collected:
    """One method's finished maps on the network's grid, filled chunk by chunk."""

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
        of_maps = [kind for kind in method.spec.scores if kind in method.spec.maps]
        self.sums = {kind: torch.zeros(1, 4, dtype=torch.float64) for kind in of_maps}
        self.own_sums: Tensor | None = None
        self.link = method.segmenter.spec.link
        channels = method.segmenter.spec.logit_channels if isinstance(method.estimator, ScoresGrids) else 0
        self.logits = torch.zeros(1, channels, *grid)

    def take(self, name: str) -> Any:
        """Hand an array on and forget it."""
        return self.__dict__.pop(name)

    def add(self, axis: int, first: int, batch: Batch, segmentation: Segmentation) -> None:
        """Estimate a few planes from blended logits and responses, and keep what results."""
        batch, segmentation = _on_device_of(self.estimator, batch, segmentation)
        with torch.inference_mode():
            uncertainty = self.estimator.estimate(batch, segmentation)
            probability = uncertainty.of(segmentation)
            labels = segmentation.labels()
            if isinstance(self.estimator, ScoresCases):
                sums = self.estimator.case_sums(batch, segmentation).cpu()
                self.own_sums = sums if self.own_sums is None else self.own_sums + sums
        place = [slice(None)] * self.segmentation.ndim
        place[axis] = slice(first, first + labels.shape[1 + axis])
        self.segmentation[tuple(place)] = labels[0].cpu().numpy()
        if isinstance(self.estimator, ScoresGrids):
            self.logits[(slice(None), slice(None), *place)] = segmentation.logits.cpu()
        self.probability[(slice(None), *place)] = _store(probability[0].cpu().numpy(), self.probability.dtype)
        for kind, array in self.maps.items():
            array[tuple(place)] = _store(uncertainty.maps[kind][0].cpu().numpy(), array.dtype)
        for kind, sums in self.sums.items():
            sums += region_sums(uncertainty.maps[kind], labels).cpu()

    def scores(self, image: Tensor) -> dict[Kind, float]:
        """The case's scores, from the sums over all planes and, where an estimator wants them, from all logits.

        Args:
            image: (1, channels, *grid), of the whole case.
        """
        scores = {kind: float(score_from_sums(kind, sums)[0]) for kind, sums in self.sums.items()}
        if isinstance(self.estimator, ScoresCases) and self.own_sums is not None:
            own = self.estimator.case_scores(self.own_sums)
            scores |= {kind: float(value[0]) for kind, value in own.items()}
        if isinstance(self.estimator, ScoresGrids):
            whole = Segmentation(self.take("logits"), self.link)
            moved = _on_device_of(self.estimator, Batch(image), whole)
            with torch.inference_mode():
                own = self.estimator.grid_scores(*moved)
            scores |= {kind: float(value[0]) for kind, value in own.items()}
        return scores


def _on_device_of(
    estimator: Estimator, batch: Batch, segmentation: Segmentation
) -> tuple[Batch, Segmentation]:
    """Planes are blended on the CPU; an estimator on a GPU gets them there."""
    assert isinstance(estimator, nn.Module)
    tensor = next(chain(estimator.parameters(), estimator.buffers()), None)
    if tensor is None or tensor.device == segmentation.logits.device:
        return batch, segmentation
    features = {name: value.to(tensor.device) for name, value in segmentation.features.items()}
    moved = replace(segmentation, logits=segmentation.logits.to(tensor.device), features=features)
    return replace(batch, image=batch.image.to(tensor.device)), moved


def _store(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    return np.rint(values * 255.0).astype(np.uint8) if kind == np.uint8 else values.astype(kind)


def on_file_grid(
    method: Method,
    found: Collected,
    prepared: Prepared,
    image: Image,
    rule: DecisionRule | None,
    seconds: float,
) -> CaseResult:
    """The finished case: every map on the file's own grid, the decision, the volumes."""
    segmenter = method.segmenter
    assert isinstance(segmenter, FrozenSegmenter)
    scores = found.scores(torch.from_numpy(prepared.array).unsqueeze(0))
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
