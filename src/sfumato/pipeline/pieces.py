"""Labelled cases as batches that fit the network in one piece: what methods are fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch

from ..segmenters.spec import SegmenterSpec
from ..training.samples import Sample
from ..types import Batch, TextPrompt
from .windows import plan_windows

SLICES = 16
"""Slices of a volume per batch, for 2-D networks."""


def pieces_of(sample: Sample, spec: SegmenterSpec, sentence: str | None = None) -> Iterator[Batch]:
    """Cut a prepared case into windows that overlap as little as possible; padding has label -1.

    A 3-D case gives one batch per window, a picture likewise; a volume for a 2-D network gives batches of slices. Where
    a sentence is written about the case, every row has it as its prompt.
    """
    flat = spec.spatial_dims == 2 and sample.label.ndim == 3
    grid = sample.label.shape[1:] if flat else sample.label.shape
    plan = plan_windows(grid, spec.window, spec.divisor, overlap=0.0)
    for starts in product(*plan.starts):
        image, label = _padded(sample, starts, plan.window, flat)
        if not flat:
            yield _batch(image[None], label[None], sentence)
            continue
        slices = np.moveaxis(image, 1, 0)
        for first in range(0, len(slices), SLICES):
            yield _batch(slices[first : first + SLICES], label[first : first + SLICES], sentence)


def _batch(image: np.ndarray, label: np.ndarray, sentence: str | None) -> Batch:
    return Batch(
        torch.from_numpy(np.ascontiguousarray(image)),
        None if sentence is None else TextPrompt((sentence,) * len(image)),
        torch.from_numpy(label.astype(np.int64)),
    )


def _padded(
    sample: Sample, starts: Sequence[int], window: Sequence[int], flat: bool
) -> tuple[np.ndarray, np.ndarray]:
    grid = sample.label.shape[1:] if flat else sample.label.shape
    inside = tuple(slice(max(s, 0), min(s + w, n)) for s, w, n in zip(starts, window, grid, strict=True))
    pads = [
        (max(-s, 0), w - max(-s, 0) - (i.stop - i.start))
        for s, w, i in zip(starts, window, inside, strict=True)
    ]
    lead = [slice(None)] if flat else []
    still = [(0, 0)] if flat else []
    image = np.pad(sample.image[(slice(None), *lead, *inside)], [(0, 0), *still, *pads])
    label = np.pad(sample.label[(*lead, *inside)], [*still, *pads], constant_values=-1)
    return image, label
