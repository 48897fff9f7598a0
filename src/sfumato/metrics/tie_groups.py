"""Groups of equal score that hold an error, and the four areas that depend on nothing else.

Sort N voxels by increasing score, P of them wrong and Q = N - P right. A tie group starts after K voxels of smaller
score with E errors among them, and holds g voxels with b errors, evenly spread. H are harmonic numbers. Then

- AUROC = sum b (K - E + (g - b) / 2) / (P Q)
- AUPRC = sum (b / P) (P - E) / (N - K)
- AURC  = sum (b / g) (g (H_N - H_{K+g}) + sum_{j=1..g} j / (K + j)) / N
- AUGRC = sum b (N - K - (g - 1) / 2) / N^2

over groups with b > 0. Evenly spread errors are the mean over all orders of the tied voxels, for AUROC, AURC and
AUGRC alike; AUPRC is scikit-learn's average precision, which has one threshold per group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .harmonic import harmonic_gap, weighted_gap

AREAS = ("auroc", "auprc", "aurc", "augrc")
SCAN = 1 << 17
"""Keys scanned, and groups summed, at a time."""


@dataclass(frozen=True)
class TieGroups:
    """Groups in increasing order of score, int64 (..., groups); groups without an error may be left out.

    Args:
        start: K, voxels of smaller score.
        size: g, voxels of this score.
        errors: b, wrong voxels of this score.
        before: E, wrong voxels of smaller score.
    """

    start: np.ndarray
    size: np.ndarray
    errors: np.ndarray
    before: np.ndarray

    @staticmethod
    def from_counts(right: np.ndarray, wrong: np.ndarray) -> TieGroups:
        """Groups from right and wrong voxels (..., groups) per score, in increasing order of score."""
        size = right + wrong
        return TieGroups(size.cumsum(-1) - size, size, wrong, wrong.cumsum(-1) - wrong)

    def errors_first(self) -> TieGroups:
        """The same voxels, with the errors of a group below all others of the group."""
        return TieGroups(self.start, self.errors, self.errors, self.before)

    def errors_last(self) -> TieGroups:
        """The same voxels, with the errors of a group above all others of the group."""
        start = self.start + self.size - self.errors
        return TieGroups(start, self.errors, self.errors, self.before)


def areas(groups: TieGroups, count: np.ndarray | int, wrong: np.ndarray | int) -> np.ndarray:
    """AUROC, AUPRC, AURC and AUGRC (4, ...), summed over the last axis of the groups.

    Areas of disjoint blocks of groups add up, each block with the `count` and `wrong` of all voxels.

    Args:
        groups: (..., groups).
        count: (...) voxels in all, up to 2^40.
        wrong: (...) errors in all, fewer than 2^32.

    Returns:
        NaN where undefined: AUROC without an error or without a right voxel, AUPRC without an error, all without
        a voxel.

    Example:
        >>> right, wrong = np.array([2, 1, 0]), np.array([0, 1, 1])
        >>> areas(TieGroups.from_counts(right, wrong), 5, 2).round(4).tolist()
        [0.9167, 0.8333, 0.1633, 0.14]
    """
    start, size, errors, before = groups.start, groups.size, groups.errors, groups.before
    voxels, bad = np.asarray(count, np.int64), np.asarray(wrong, np.int64)
    n, p = voxels[..., None], bad[..., None]
    pairs = _exact_sum(errors, 2 * (start - before) + size - errors)
    joint = _exact_sum(errors, 2 * (n - start) - size + 1)
    precision = (errors * ((p - before) / np.maximum(n - start, 1))).sum(-1)
    end = start + size
    harmonic = harmonic_gap(end, n - end) + weighted_gap(start, size) / np.maximum(size, 1)
    risks = (errors * harmonic).sum(-1)
    total, all_wrong, all_right = voxels.astype(float), bad.astype(float), (voxels - bad).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack(
            [
                pairs / (2 * all_wrong * all_right),
                precision / all_wrong,
                risks / total,
                joint / (2 * total * total),
            ]
        )


def _exact_sum(errors: np.ndarray, factor: np.ndarray) -> np.ndarray:
    # The sum passes 2^63 near 4e9 voxels, so it is taken in two exact halves.
    high = (errors * (factor >> 31)).sum(-1).astype(float)
    return high * 2.0**31 + (errors * (factor & (2**31 - 1))).sum(-1)


def tie_groups(halves: Iterable[np.ndarray], block: int = SCAN) -> Iterator[TieGroups]:
    """Groups with an error from sorted keys, in blocks of `block`, so that memory stays bounded.

    Args:
        halves: arrays of `sorted_keys`, in increasing order of score.
        block: groups per block; the last holds fewer. Blocks depend on the groups only, not on the chunks of the
            scan, so sums over blocks are the same bits for every strictly increasing map of the score.
    """
    waiting: list[np.ndarray] = []
    held, before, offset = 0, 0, 0
    for keys in halves:
        for found in _scan(keys):
            found[0] += offset
            found[3] = before + np.cumsum(found[2]) - found[2]
            before += int(found[2].sum())
            waiting.append(found)
            held += found.shape[1]
            if held >= block:
                joined = np.concatenate(waiting, axis=1)
                for first in range(0, held - block + 1, block):
                    yield TieGroups(*joined[:, first : first + block])
                waiting = [joined[:, held - held % block :]]
                held %= block
        offset += keys.size
    if held:
        yield TieGroups(*np.concatenate(waiting, axis=1))


def _scan(keys: np.ndarray) -> Iterator[np.ndarray]:
    # Rows of what is found: start, size, errors, and one left free for the errors before.
    one = keys.dtype.type(1)
    last = None
    for first in range(0, keys.size, SCAN):
        part = keys[first : first + SCAN]
        odd = part[(part & one).astype(bool)]
        values = odd[np.flatnonzero(np.append(True, odd[1:] != odd[:-1]))] if odd.size else odd
        if values.size and last is not None and values[0] == last:
            values = values[1:]
        if not values.size:
            continue
        last = values[-1]
        # A group may reach over the chunk on both sides.
        low = int(np.searchsorted(keys, values[0] - one))
        high = int(np.searchsorted(keys, last, "right"))
        window = keys[low:high]
        start = np.searchsorted(window, values - one)
        wrong = np.searchsorted(window, values)
        end = np.searchsorted(window, values, "right")
        yield np.stack([start + low, end - start, end - wrong, np.zeros_like(start)]).astype(np.int64)
