"""One pass over voxels that adds to the counters of a score histogram and of calibration.

Each pass exists twice, in numpy and compiled by numba (the `fast` extra), and both give the same integers. Compiling
takes a second or two, so numba is used from `WORTH_COMPILING` voxels on, or once it has been compiled.

Counters are int64 tables that the passes change in place:

- `scores` (2, 2^bits): right and wrong voxels by the leading bits of the score's order-preserving float32 key.
- `bins` (bins, 3) and `doubts` (DOUBTS, 3): voxels, their summed confidence in units of 2^-32, and how many were
  right; in equal-width bins of the confidence, and by the leading 16 bits of the float32 `1 - confidence`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from ..errors import ConfigError, MissingExtraError
from .keys import CHUNK, chunks, order_bits

UNIT = 2.0**32
"""Units of a confidence or a Brier score per 1."""
DOUBTS = (np.float32(1).view(np.uint32) >> 16).item() + 1
"""Fine bins of the doubt: leading 16 bits of a float32 in [0, 1]."""
WORTH_COMPILING = 1 << 25
BACKENDS = ("auto", "numpy", "numba")

ready: set[str] = set()
"""Families of passes that have been compiled: `counters` here, `buckets` for sorting."""


def uses_numba(backend: str, voxels: int, family: str = "counters") -> bool:
    """Whether a pass over so many voxels runs compiled.

    Raises:
        ConfigError: no such backend.
        MissingExtraError: numba is asked for and not installed.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"Backend {backend!r} is not known, expected one of {', '.join(BACKENDS)}.")
    if backend == "numpy" or (backend == "auto" and voxels < WORTH_COMPILING and family not in ready):
        return False
    there = find_spec("numba") is not None
    if backend == "numba" and not there:
        raise MissingExtraError("numba", "fast", "the compiled pass over voxels")
    return there


def add_scores(table: np.ndarray, scores: np.ndarray, wrong: np.ndarray, compiled: bool) -> None:
    """Count finite float32 scores (voxels,) and boolean errors (voxels,) into `scores` of this module's tables."""
    shift = 33 - (table.shape[1]).bit_length()
    if compiled:
        _compiled()["scores"](table, scores.view(np.int32), wrong, shift)
        return
    flat, bins = table.reshape(-1), table.shape[1]
    for part in chunks(scores.size):
        code = (order_bits(scores[part]) >> shift).astype(np.intp)
        np.add.at(flat, code + wrong[part] * np.intp(bins), 1)


def add_confidences(
    bins: np.ndarray, doubts: np.ndarray, confidence: np.ndarray, right: np.ndarray, compiled: bool
) -> None:
    """Count confidences (voxels,) in [0, 1], float32 or float64, and boolean hits (voxels,) into both tables."""
    if compiled:
        _compiled()["confidences"](bins, doubts, confidence, right)
        return
    for part in chunks(confidence.size):
        p, hit = confidence[part].astype(np.float64), right[part]
        fixed = np.floor(p * UNIT + 0.5)
        place = np.minimum((p * len(bins)).astype(np.intp), len(bins) - 1)
        fine = ((1 - p).astype(np.float32).view(np.uint32) >> 16).astype(np.intp)
        for table, index in ((bins, place), (doubts, fine)):
            # Sums of at most 2^17 whole numbers up to 2^32 are exact in float64.
            table[:, 0] += np.bincount(index, minlength=len(table))
            table[:, 1] += np.bincount(index, weights=fixed, minlength=len(table)).astype(np.int64)
            table[:, 2] += np.bincount(index[hit], minlength=len(table))


def add_both(
    table: np.ndarray,
    bins: np.ndarray,
    doubts: np.ndarray,
    scores: np.ndarray,
    confidence: np.ndarray,
    wrong: np.ndarray,
    compiled: bool,
) -> None:
    """Both of the above in one pass: a voxel is right where it is not wrong."""
    if compiled:
        shift = 33 - (table.shape[1]).bit_length()
        _compiled()["both"](table, bins, doubts, scores.view(np.int32), confidence, wrong, shift)
        return
    for part in chunks(scores.size, CHUNK):
        add_scores(table, scores[part], wrong[part], False)
        add_confidences(bins, doubts, confidence[part], ~wrong[part], False)


def _voxel_steps() -> tuple[Callable[..., Any], Callable[..., Any]]:
    import numba

    @numba.njit(inline="always")
    def count_score(table, bits, wrong, shift):
        # As `order_bits`: -0.0 becomes 0.0, and a negative number has all its bits turned over.
        if bits == -2147483648:
            bits = np.int32(0)
        key = (np.int64(bits) + 2147483648) if bits >= 0 else (np.int64(~bits) & 0x7FFFFFFF)
        table[wrong, key >> shift] += 1

    @numba.njit(inline="always")
    def count_confidence(bins, doubts, confidence, right):
        p = np.float64(confidence)
        fixed = np.int64(np.floor(p * UNIT + 0.5))
        place = min(np.int64(p * len(bins)), len(bins) - 1)
        fine = np.float32(1 - p).view(np.int32) >> 16
        bins[place, 0] += 1
        bins[place, 1] += fixed
        bins[place, 2] += right
        doubts[fine, 0] += 1
        doubts[fine, 1] += fixed
        doubts[fine, 2] += right

    return count_score, count_confidence


@cache
def _compiled() -> dict[str, Callable[..., Any]]:
    import numba

    count_score, count_confidence = _voxel_steps()

    @numba.njit(nogil=True)
    def score_pass(table, bits, wrong, shift):
        for i in range(len(bits)):
            count_score(table, bits[i], np.int64(wrong[i]), shift)

    @numba.njit(nogil=True)
    def confidence_pass(bins, doubts, confidence, right):
        for i in range(len(confidence)):
            count_confidence(bins, doubts, confidence[i], np.int64(right[i]))

    @numba.njit(nogil=True)
    def both_passes(table, bins, doubts, bits, confidence, wrong, shift):
        for i in range(len(bits)):
            count_score(table, bits[i], np.int64(wrong[i]), shift)
            count_confidence(bins, doubts, confidence[i], np.int64(not wrong[i]))

    ready.add("counters")
    return {"scores": score_pass, "confidences": confidence_pass, "both": both_passes}
