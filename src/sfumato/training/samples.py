"""Training patches: a seeded sampler whose n-th batch depends on nothing but the seed and n.

That makes an interrupted run resumable without saving any random state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..types import Batch

Augmentation = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]
"""(image (channels, *grid), label (*grid), seed) -> the same, changed."""

FOREGROUND_VOXELS = 2000
"""Foreground voxels remembered per class and sample, to centre patches on."""


@dataclass(frozen=True)
class Sample:
    """One prepared image (channels, *grid) with its class numbers (*grid), on the network's grid.

    Args:
        image: (channels, *grid).
        label: (*grid), class numbers.
        name: of the sample.
        patient: whom it shows.
        case: name of the volume that it is a slice of; empty where the sample is the whole case.
    """

    image: np.ndarray
    label: np.ndarray
    name: str
    patient: str
    case: str = ""


@dataclass(frozen=True)
class PatchSampler:
    """Random patches, a share of them centred on a foreground voxel of a uniformly drawn class.

    Args:
        samples: what to draw from.
        patch: grid of a patch; smaller samples are padded with 0, which is the mean after normalisation.
        batch_size: patches per batch.
        foreground: share of patches centred on foreground.
        seed: the n-th batch is a function of this and n.
        augment: applied to each patch.
        limit: patches per epoch; 0 draws every sample once.
    """

    samples: Sequence[Sample]
    patch: tuple[int, ...]
    batch_size: int
    foreground: float = 0.5
    seed: int = 0
    augment: Augmentation | None = None
    limit: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "_centres", [_foreground_voxels(s.label, i) for i, s in enumerate(self.samples)]
        )
        positions = {case: i for i, case in enumerate(self.cases)}
        object.__setattr__(self, "_case_index", [positions[s.case or s.name] for s in self.samples])

    @property
    def cases(self) -> tuple[str, ...]:
        """Names of the cases in the order that `Batch.index` counts; slices of one volume are one case."""
        return tuple(dict.fromkeys(s.case or s.name for s in self.samples))

    @property
    def steps_per_epoch(self) -> int:
        """Batches until every sample was drawn once, or `limit` patches were."""
        return max(1, -(-(self.limit or len(self.samples)) // self.batch_size))

    @property
    def _steps_per_pass(self) -> int:
        return max(1, -(-len(self.samples) // self.batch_size))

    def batch(self, step: int) -> Batch:
        """The batch of one optimiser step."""
        epoch, position = divmod(step, self._steps_per_pass)
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.samples))
        rows, cases = [], []
        for row in range(self.batch_size):
            index = int(order[(position * self.batch_size + row) % len(order)])
            rng = np.random.default_rng([self.seed, 2, step, row])
            image, label = self._patch(index, rng)
            if self.augment is not None:
                image, label = self.augment(image, label, int(rng.integers(2**31)))
            rows.append((np.ascontiguousarray(image), np.ascontiguousarray(label)))
            cases.append(self._case_index[index])  # type: ignore[attr-defined]
        images, labels = zip(*rows, strict=True)
        return Batch(
            torch.from_numpy(np.stack(images)),
            label=torch.from_numpy(np.stack(labels).astype(np.int64)),
            index=torch.tensor(cases),
        )

    def _patch(self, index: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        sample = self.samples[index]
        centres: list[np.ndarray] = self._centres[index]  # type: ignore[attr-defined]
        grid = np.array(sample.label.shape)
        patch = np.array(self.patch)
        if centres and rng.random() < self.foreground:
            voxels = centres[rng.integers(len(centres))]
            start = voxels[rng.integers(len(voxels))] - patch // 2
        else:
            start = np.array(
                [rng.integers(min(0, n - p), max(0, n - p) + 1) for n, p in zip(grid, patch, strict=True)]
            )
        low, high = np.minimum(0, grid - patch), np.maximum(0, grid - patch)
        return crop(sample.image, sample.label, np.clip(start, low, high), self.patch)


def _foreground_voxels(label: np.ndarray, index: int) -> list[np.ndarray]:
    rng = np.random.default_rng([index, 3])
    found = []
    for value in range(1, int(label.max(initial=0)) + 1):
        voxels = np.argwhere(label == value)
        if len(voxels):
            keep = rng.permutation(len(voxels))[:FOREGROUND_VOXELS]
            found.append(voxels[keep])
    return found


def crop(
    image: np.ndarray, label: np.ndarray, start: np.ndarray, patch: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Cut a patch that may reach outside; outside is 0 in the image and background in the label."""
    grid = label.shape
    inside = tuple(slice(max(0, s), min(n, s + p)) for s, p, n in zip(start, patch, grid, strict=True))
    before = [max(0, -int(s)) for s in start]
    pad = [(b, p - b - (i.stop - i.start)) for b, p, i in zip(before, patch, inside, strict=True)]
    return np.pad(image[(slice(None), *inside)], [(0, 0), *pad]), np.pad(label[inside], pad)
