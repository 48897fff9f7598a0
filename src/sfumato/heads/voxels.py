"""Labelled voxels of many cases, gathered to fit a few numbers on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ..types import Segmentation
from .labels import IGNORE

VOXEL_LIMIT = 1 << 23
"""Most voxels that temperatures and error tables are fitted on."""


@dataclass
class Voxels:
    """Labelled voxels of cases, on the CPU, thinned out evenly where there are too many; one entry per case.

    Args:
        logits: (classes, voxels) each, full logits.
        labels: (voxels,) each, no -1 among them.
        scores: (voxels,) each; empty where none were given.
        temperatures: (voxels,) each; empty where none were given.

    Example:
        >>> import torch
        >>> from sfumato.types import Link
        >>> case = Segmentation(torch.tensor([[[2.0, 0.0, 1.0]]]), Link.SIGMOID)
        >>> seen = Voxels.gather([(case, torch.tensor([[1, 1, -1]]), None, None)], 1, seed=0)
        >>> seen.labels[0].tolist(), seen.wrong()[0].tolist()
        ([1, 1], [False, True])
    """

    logits: list[Float[Tensor, "classes _"]]
    labels: list[Int[Tensor, "_"]]
    scores: list[Float[Tensor, "_"]]
    temperatures: list[Float[Tensor, "_"]]

    @classmethod
    def gather(
        cls,
        cases: Iterable[tuple[Segmentation, Tensor, Tensor | None, Tensor | None]],
        count: int,
        seed: int,
    ) -> Voxels:
        """Take at most `VOXEL_LIMIT / count` voxels of each case.

        Args:
            cases: segmentation, label, score and temperature of each.
            count: how many cases there are.
            seed: of the draws.
        """
        found = cls([], [], [], [])
        generator = torch.Generator().manual_seed(seed)
        for segmentation, label, score, temperature in cases:
            flat = label.flatten().cpu()
            index = (flat != IGNORE).nonzero()[:, 0]
            if len(index) > VOXEL_LIMIT // count:
                index = index[torch.randperm(len(index), generator=generator)[: VOXEL_LIMIT // count]]
            logits = segmentation.full_logits().movedim(1, 0).flatten(1).cpu()
            found.logits.append(logits[:, index])
            found.labels.append(flat[index])
            if score is not None:
                found.scores.append(score.flatten().cpu()[index])
            if temperature is not None:
                found.temperatures.append(temperature.flatten().cpu()[index])
        return found

    def wrong(self) -> list[Bool[Tensor, "_"]]:
        """Where the arg-max is not the label, per case."""
        return [z.argmax(dim=0) != y for z, y in zip(self.logits, self.labels, strict=True)]
