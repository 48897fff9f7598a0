"""From a ranking score to the chance of error: isotonic regression, kept as a monotone table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..errors import InputError
from ..interfaces import Estimator, Segmenter
from ..types import Batch, Kind
from .labels import label_of
from .voxels import Voxels

KNOTS = 256


def pool_adjacent_violators(value: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted isotonic regression: the non-decreasing fit with the smallest weighted squared error.

    Args:
        value: (n,) in the order of the score.
        weight: (n,) positive.

    Returns:
        The level of each block and how many entries it holds.

    Example:
        >>> levels, sizes = pool_adjacent_violators(np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4))
        >>> levels.tolist(), sizes.tolist()
        ([1.0, 2.5, 4.0], [1, 2, 1])
    """
    levels: list[float] = []
    weights: list[float] = []
    sizes: list[int] = []
    for v, w in zip(value.astype(float), weight.astype(float), strict=True):
        levels.append(float(v))
        weights.append(float(w))
        sizes.append(1)
        while len(levels) > 1 and levels[-2] >= levels[-1]:
            joint = weights[-2] + weights[-1]
            levels[-2] = (levels[-2] * weights[-2] + levels[-1] * weights[-1]) / joint
            weights[-2] = joint
            sizes[-2] += sizes[-1]
            del levels[-1], weights[-1], sizes[-1]
    return np.array(levels), np.array(sizes)


def tail_dense_bins(count: int, bins: int, smallest: int = 50) -> np.ndarray:
    """Edges (indices into sorted scores) of bins that shrink towards the highest scores.

    Half of the edges are ordinary quantiles; the others halve the remaining tail again and again, down to
    `smallest` voxels per bin, because mistakes live in the last per cent.
    """
    even = np.linspace(0, count, bins // 2 + 1)
    rest = np.geomspace(count, max(1, min(smallest, count)), bins - bins // 2)
    edges = np.unique(np.rint(np.concatenate([even, count - rest])).astype(np.int64).clip(0, count))
    keep = [0]
    for edge in edges[1:]:
        if edge - keep[-1] >= min(smallest, count):
            keep.append(int(edge))
    keep[-1] = count
    return np.array(keep) if len(keep) > 1 else np.array([0, count])


def average_ties(ordered: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Replace the values of equal scores by their mean, so that no order among them is invented.

    Example:
        >>> average_ties(np.array([1.0, 2.0, 2.0]), np.array([0.0, 1.0, 0.0])).tolist()
        [0.0, 0.5, 0.5]
    """
    first = np.flatnonzero(np.append(True, np.diff(ordered) > 0))
    size = np.diff(np.append(first, len(ordered)))
    return np.repeat(np.add.reduceat(value, first) / size, size)


class ErrorTable(nn.Module):
    """A monotone map from ranking score to the probability of being wrong, as a table of knots.

    Between knots it is linear, outside it is constant; it never leaves [0, 1]. The knots are the centres of the
    blocks of an isotonic regression, so neighbours differ and the order of the scores survives. Before `fit` it
    is the identity on [0, 1].
    """

    scores: Tensor
    chances: Tensor

    def __init__(self, knots: int = KNOTS):
        super().__init__()
        self.register_buffer("scores", torch.linspace(0, 1, knots))
        self.register_buffer("chances", torch.linspace(0, 1, knots))

    def forward(self, score: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Probability of being wrong; non-decreasing in the score."""
        inside = score.clamp(self.scores[0], self.scores[-1])
        right = torch.searchsorted(self.scores, inside.contiguous()).clamp(1, self.scores.numel() - 1)
        x0, x1 = self.scores[right - 1], self.scores[right]
        share = (inside - x0) / (x1 - x0).clamp_min(1e-30)
        return torch.lerp(self.chances[right - 1], self.chances[right], share.clamp(0, 1)).clamp(0, 1)

    def fit(self, score: Float[Tensor, "voxels"], wrong: Bool[Tensor, "voxels"]) -> None:
        """Fit the table on voxels of calibration cases.

        Raises:
            InputError: not one voxel.
        """
        if score.numel() == 0:
            raise InputError(
                "No labelled voxel in the calibration cases, expected some; check the labels for -1."
            )
        ordered, order = torch.sort(score.detach().double().cpu())
        hits = average_ties(ordered.numpy(), wrong.cpu().double()[order].numpy())
        edges = tail_dense_bins(ordered.numel(), self.scores.numel())
        size = np.diff(edges)
        rate = np.diff(np.concatenate([[0.0], np.cumsum(hits)])[edges]) / size
        centre = np.diff(np.concatenate([[0.0], ordered.cumsum(0).numpy()])[edges]) / size
        levels, blocks = pool_adjacent_violators(rate, size)
        first = np.concatenate([[0], np.cumsum(blocks)[:-1]])
        mass = np.add.reduceat(size, first)
        knots = np.add.reduceat(centre * size, first) / mass
        self._store(knots, levels, float(ordered[0]), float(mass[0]))

    def _store(self, knots: np.ndarray, levels: np.ndarray, lowest: float, mass: float) -> None:
        # The lowest block holds most voxels: it rises from zero to half an error at least, or they would all tie.
        if levels[0] == 0 and len(levels) > 1:
            levels[0] = min(0.5 / mass, 0.5 * levels[1])
        if len(knots) < self.scores.numel():
            knots, levels = np.concatenate([[lowest], knots]), np.concatenate([[0.0], levels])
        knots = knots.astype(np.float32)
        last_of_tie = np.append(np.diff(knots) > 0, True)
        count = self.scores.numel()
        for buffer, values in ((self.scores, knots[last_of_tie]), (self.chances, levels[last_of_tie])):
            buffer.copy_(torch.from_numpy(np.pad(values, (0, count - len(values)), mode="edge")))


def fit_error_table(
    table: ErrorTable, estimator: Estimator, segmenter: Segmenter, cases: Sequence[Batch], seed: int
) -> None:
    """Fit the table of an estimator that fills `Kind.RANKING` on calibration cases.

    Args:
        table: of the estimator.
        estimator: fitted but for its table.
        segmenter: the frozen network.
        cases: labelled.
        seed: of the voxels that are drawn where there are too many.

    Raises:
        InputError: a case without label, or not one labelled voxel.
    """

    def ranked(index: int, case: Batch):
        segmentation = segmenter.segment(case)
        reduced = replace(segmentation, features=dict(estimator.respond(case, segmentation)))
        return segmentation, label_of(case, index), estimator.estimate(case, reduced).maps[Kind.RANKING], None

    seen = Voxels.gather((ranked(i, case) for i, case in enumerate(cases)), len(cases), seed)
    table.fit(torch.cat(seen.scores), torch.cat(seen.wrong()))
