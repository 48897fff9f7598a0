"""Several readers of one image: their consensus, where they differ, and whether an uncertainty knows it."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def consensus(labels: np.ndarray, classes: int) -> np.ndarray:
    """Majority vote (*grid); a tie goes to the lowest class, and -1 stands where nobody voted.

    Args:
        labels: (readers, *grid) class numbers; below 0 is no vote.
        classes: background included.

    Raises:
        InputError: a class that is unknown.

    Example:
        >>> consensus(np.array([[0, 1, 2], [0, 1, 1], [1, 0, -1]]), 3).tolist()
        [0, 1, 1]
    """
    votes = _votes(labels, classes)
    return np.where(votes.sum(0) > 0, votes.argmax(0), -1)


def reader_disagreement(labels: np.ndarray, classes: int) -> np.ndarray:
    """Entropy of the readers' votes (*grid): -sum_c f_c ln f_c, nats, in [0, ln min(readers, classes)].

    Arguments and errors as for `consensus`; NaN where nobody voted.

    Example:
        >>> reader_disagreement(np.array([[0, 1], [1, 1]]), 2).round(6).tolist()
        [0.693147, 0.0]
    """
    votes = _votes(labels, classes).astype(float)
    total = votes.sum(0)
    share = votes / np.maximum(total, 1)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(0) + 0.0
    return np.where(total > 0, entropy, np.nan)


def ncc(values: np.ndarray, disagreement: np.ndarray) -> float:
    """Normalised cross-correlation of an uncertainty map and the readers' disagreement, in [-1, 1].

    Mean over voxels of the product of both maps, each less its mean and divided by its standard deviation (Hu et al.,
    2019). Voxels where either is not finite are left out; NaN where a map is constant or nothing is left.

    Example:
        >>> round(ncc(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0])), 6)
        1.0
    """
    a, b = np.ravel(np.asarray(values)).astype(float), np.ravel(np.asarray(disagreement)).astype(float)
    if a.shape != b.shape:
        raise InputError(f"Maps of {a.size} and {b.size} voxels, expected one shape.")
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if not a.size or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def generalised_energy_distance(samples: np.ndarray, readers: np.ndarray, classes: int) -> float:
    """How far sampled segmentations are from those of readers, as distributions; in [0, 2], lower is better.

    GED = 2 mean d(sample, reader) - mean d(sample, sample') - mean d(reader, reader') over all pairs, a map with
    itself included (Kohl et al., 2018); d = 1 - IoU, a mean over all foreground classes in which a class that is in
    neither map counts 0. NaN without a sample or a reader.

    Args:
        samples: (samples, *grid) class numbers.
        readers: (readers, *grid) class numbers; voxels below 0 in any map are left out of all.
        classes: background included.

    Raises:
        InputError: other shapes, or a class that is unknown.

    Example:
        >>> a, b = np.array([0, 1, 1, 0]), np.array([0, 0, 1, 0])
        >>> generalised_energy_distance(np.stack([a]), np.stack([a, b]), 2)
        0.25
    """
    drawn, read = np.asarray(samples), np.asarray(readers)
    if drawn.shape[1:] != read.shape[1:]:
        raise InputError(f"Samples {drawn.shape} and readers {read.shape}, expected one grid.")
    if not len(drawn) or not len(read):
        return float("nan")
    maps = np.concatenate([drawn, read]).reshape(len(drawn) + len(read), -1)
    maps = _known_classes(maps[:, (maps >= 0).all(0)], classes)
    distance = np.zeros((len(maps), len(maps)))
    for c in range(1, classes):
        mask = (maps == c).astype(np.float64)
        both, size = mask @ mask.T, mask.sum(1)
        union = size[:, None] + size - both
        distance += 1 - np.divide(both, union, out=np.ones_like(both), where=union > 0)
    distance /= max(classes - 1, 1)
    n = len(drawn)
    return float(2 * distance[:n, n:].mean() - distance[:n, :n].mean() - distance[n:, n:].mean())


def _votes(labels: np.ndarray, classes: int) -> np.ndarray:
    table = _known_classes(np.asarray(labels), classes)
    return np.stack([(table == c).sum(0) for c in range(classes)])


def _known_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    if labels.max(initial=0) >= classes:
        raise InputError(f"Class {labels.max()} is unknown, expected 0 to {classes - 1}.")
    return labels
