"""Ranking metrics of all voxels together, with intervals over patients, from one histogram per case.

Bins are merged to a few thousand groups of near-equal mass with the same edges in every case. One matrix product of
resample weights and counts then gives the pooled counts of every resample, and the formulas of `tie_groups` run over
all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import ConfigError, InputError
from .bootstrap import RESAMPLES, Interval, resample_weights, resampled_interval
from .histogram import ScoreHistogram
from .selective import perfect_aurc
from .tie_groups import AREAS, TieGroups, areas

GROUPS = 4096
POOLED = ("auroc", "auprc", "aurc", "eaurc", "augrc", "error_rate")
_CELLS = 1 << 18


def common_edges(histograms: Sequence[ScoreHistogram], groups: int = GROUPS) -> np.ndarray:
    """First bin of each of at most `groups` groups (n,) that together hold near-equal numbers of voxels.

    A bin is never cut, so one that holds more than its share is a group of its own.

    Raises:
        ConfigError: no histogram, histograms of different bits, or no group.

    Example:
        >>> histogram = ScoreHistogram()
        >>> histogram.update(np.arange(8.0), np.zeros(8))
        >>> histogram.coarsened(common_edges([histogram], 4))[0].tolist()
        [2, 2, 2, 2]
    """
    if not histograms or groups < 1 or len({h.bits for h in histograms}) > 1:
        raise ConfigError(
            f"{len(histograms)} histograms and {groups} groups, expected some, all of the same bits."
        )
    total = np.zeros(1 << histograms[0].bits, np.int64)
    for histogram in histograms:
        total += histogram.counts.sum(0)
    before = np.cumsum(total) - total
    share = before * groups // max(int(total.sum()), 1)
    filled = np.flatnonzero(total)
    starts = filled[np.flatnonzero(np.diff(share[filled], prepend=-1))]
    return np.unique(np.append(0, starts[1:]))


def resampled_areas(counts: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """AUROC, AUPRC, AURC, E-AURC, AUGRC and error rate (resamples,) of pooled voxels; NaN where undefined.

    Args:
        counts: (patients, 2, groups) right and wrong voxels in increasing order of score.
        weights: (resamples, patients) of `resample_weights`.

    Example:
        >>> counts = np.array([[[2, 0], [0, 1]], [[1, 1], [0, 1]]])
        >>> resampled_areas(counts, np.array([[1, 1], [2, 0]]))["auroc"].tolist()
        [0.875, 1.0]
    """
    flat = counts.reshape(len(counts), -1).astype(np.float64)
    step = max(1, _CELLS // flat.shape[1])
    parts = [_areas_of(flat, weights[i : i + step]) for i in range(0, len(weights), step)]
    return dict(zip(POOLED, np.concatenate(parts, axis=1), strict=True))


def _areas_of(flat: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # Counts below 2^53 are exact in the product.
    right, wrong = np.moveaxis(
        (weights.astype(np.float64) @ flat).astype(np.int64).reshape(len(weights), 2, -1), 1, 0
    )
    count, bad = (right + wrong).sum(-1), wrong.sum(-1)
    four = areas(TieGroups.from_counts(right, wrong), count, bad)
    rate = np.divide(bad, count, out=np.full(len(bad), np.nan), where=count > 0)
    table = dict(zip(AREAS, four, strict=True)) | {"error_rate": rate}
    table["eaurc"] = table["aurc"] - perfect_aurc(rate)
    return np.stack([table[name] for name in POOLED])


def counts_by_patient(
    histograms: Sequence[ScoreHistogram], patients: Sequence[str], edges: np.ndarray
) -> np.ndarray:
    """Right and wrong voxels (patients, 2, groups), patients in sorted order.

    Raises:
        InputError: not one patient per histogram.
    """
    if len(histograms) != len(patients):
        raise InputError(f"{len(histograms)} histograms and {len(patients)} patients, expected as many.")
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    counts = np.zeros((len(names), 2, len(edges)), np.int64)
    for histogram, place in zip(histograms, owner, strict=True):
        counts[place] += histogram.coarsened(edges)
    return counts


def pooled_bootstrap(
    histograms: Sequence[ScoreHistogram],
    patients: Sequence[str],
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    groups: int = GROUPS,
) -> dict[str, Interval]:
    """Pooled metrics with percentile intervals over patients.

    The value comes from the full histograms, the resamples from at most `groups` groups of bins.

    Args:
        histograms: one per case.
        patients: of each case.
        seed: of the resampling.
        resamples: how many.
        level: of the interval.
        groups: of bins.

    Example:
        >>> cases = [ScoreHistogram(), ScoreHistogram()]
        >>> cases[0].update(np.array([1.0, 2.0]), np.array([0, 1]))
        >>> cases[1].update(np.array([1.0, 3.0]), np.array([0, 1]))
        >>> pooled_bootstrap(cases, ["a", "b"], resamples=50)["auroc"].low
        1.0
    """
    edges = common_edges(histograms, groups)
    counts = counts_by_patient(histograms, patients, edges)
    resampled = resampled_areas(counts, resample_weights(len(counts), resamples, seed))
    whole = sum(histograms[1:], start=histograms[0]).selective()
    values: Mapping[str, float] = {n: getattr(whole, n).value for n in POOLED[:-1]}
    values = {**values, "error_rate": whole.error_rate}
    return {name: resampled_interval(values[name], resampled[name], level) for name in POOLED}
