"""The estimator: AUV of a segmenter's own class logits, one score per case."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError, InputError, UnknownNameError
from ...measures.entropy import entropy
from ...segmenters.spec import SegmenterSpec
from ...types import Batch, Kind, Link, Segmentation, Uncertainty
from .config import SampleDifficultyConfig
from .range import ReferenceRange
from .spectrum import case_scale, class_scales


class SampleDifficulty(nn.Module):
    """AUV of every case as ALEATORIC score, beside the softmax entropy of every voxel as PREDICTIVE map.

    Scales depend on the matrix's size, so they are taken from blocks no larger than the segmenter's window, as in
    fitting: a case that fits the window is one block. A larger case gets the mean of its blocks' AUV, weighted by
    their voxels of predicted foreground (equally, where nothing is predicted).

    Args:
        config: see `SampleDifficultyConfig`.
        spec: of the segmenter.

    Raises:
        ConfigError: the axis D for a 2-D segmenter, whose slices are one row along it.
        UnknownNameError: an aggregate of classes that the segmenter does not have.
    """

    ends: Tensor
    counts: Tensor

    def __init__(self, config: SampleDifficultyConfig, spec: SegmenterSpec):
        super().__init__()
        self.config = config
        self.names = spec.classes[1:]
        flat = spec.spatial_dims == 2
        if flat and config.axis == "D":
            raise ConfigError(
                "axis='D' for a 2-D segmenter, whose slices are one row along D; choose H or W."
            )
        for name in () if isinstance(config.aggregate, str) else config.aggregate:
            if name not in self.names:
                raise UnknownNameError("class", name, self.names)
        self.axis = config.axis if config.axis != "auto" else "H" if flat else "D"
        self.block = (1, *spec.window) if flat else tuple(spec.window)
        self.register_buffer("ends", torch.tensor([math.inf, -math.inf], dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.int64))

    @property
    def reference(self) -> ReferenceRange:
        """The stored range."""
        (low, high), (count, flagged) = self.ends.tolist(), self.counts.tolist()
        return ReferenceRange(low, high, count, flagged, self.config.range, self.config.percentiles)

    def fit(self, scales: Sequence[float]) -> None:
        """Store the range of these scales.

        Raises:
            InputError: none of them is defined and above the floor.
        """
        found = ReferenceRange.from_values(scales, self.config.range, self.config.percentiles)
        if not found.count:
            raise InputError(
                f"None of {len(scales)} cases has a scale, expected logits that are finite and not constant; check "
                "the segmenter and its images."
            )
        self.ends.copy_(torch.tensor([found.low, found.high]))
        self.counts.copy_(torch.tensor([found.count, found.flagged]))

    def respond(self, batch: Batch, segmentation: Segmentation) -> Mapping[str, Tensor]:
        """Nothing but the logits is needed."""
        return {}

    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """The entropy of the segmenter's probability, nats: difficulty has no voxels."""
        return Uncertainty({Kind.PREDICTIVE: entropy(segmentation.probability())})

    @torch.no_grad()
    def grid_scores(self, batch: Batch, segmentation: Segmentation) -> dict[Kind, Float[Tensor, "batch"]]:
        """AUV in [0, 1], 1 = hardest, against the stored range; 1 where no block has a scale."""
        labels = segmentation.labels()
        found = []
        for logits, label in zip(segmentation.logits, labels, strict=True):
            scales, weights = [], []
            for place in self._places(label.shape):
                scales.append(self.scale(logits[(slice(None), *place)], segmentation.link))
                weights.append(float((label[place] > 0).sum()))
            found.append(_mean(self.reference, np.array(scales), np.array(weights)))
        return {Kind.ALEATORIC: torch.tensor(found, dtype=torch.float32, device=labels.device)}

    def scale(self, logits: Float[Tensor, "classes *grid"], link: Link) -> float:
        """S of one block: summed, or otherwise aggregated, over foreground classes; NaN where it is not defined.

        The lone logit of `Link.SIGMOID` is the foreground's map.
        """
        maps = logits if link is Link.SIGMOID else logits[1:]
        volumes = maps.unsqueeze(1) if maps.dim() == 3 else maps
        scales = class_scales(volumes, self.names, axis=self.axis, centre=self.config.centre)
        return case_scale(scales, self.config.aggregate, self.config.convention)[0]

    def _places(self, grid: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """Blocks of one size that cover the grid and overlap as little as they can."""
        block = self.block[-len(grid) :]
        yield from product(*(_cover(n, min(n, side)) for n, side in zip(grid, block, strict=True)))


def _cover(size: int, side: int) -> list[slice]:
    count = math.ceil(size / side)
    starts = [round(i * (size - side) / max(1, count - 1)) for i in range(count)]
    return [slice(start, start + side) for start in starts]


def _mean(reference: ReferenceRange, scales: np.ndarray, weights: np.ndarray) -> float:
    fine = ~reference.flags(scales)
    if not fine.any():
        return 1.0
    shares = weights[fine] if weights[fine].any() else np.ones(int(fine.sum()))
    return float(np.average(reference(scales[fine]), weights=shares))
