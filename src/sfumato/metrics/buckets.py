"""The keys of `sorted_keys` by way of buckets, compiled: keys go to their bucket at once, then buckets are sorted.

A bucket holds the keys of one sign that share their leading 16 bits. In a 32-bit key 16 bits are left, which are sorted
by counting. Numpy's own sort of 32-bit keys took 6 to 45 ns per key, depending on the instructions it chose on one and
the same processor; this took 10. Memory is that of the keys.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .kernels import ready
from .keys import chunks, exact_type, order_bits

CODES = 1 << 17
"""Buckets: the sign and 16 bits of the key."""
_COUNTED = 1 << 15
"""Keys from which a bucket is sorted by counting 2^16 values."""


def bucketed_keys(scores: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same arrays as `sorted_keys`, with numba.

    Args:
        scores: (voxels,) finite.
        errors: (voxels,) bool.

    Raises:
        InputError: a score is not finite, or of a type without exact keys.
    """
    kind = exact_type(scores.dtype)
    shift = np.uint64(kind.itemsize * 8 - 17)
    passes, sizes = _compiled(), np.zeros(CODES, np.int64)
    for part in chunks(scores.size):
        passes["count"](order_bits(np.ascontiguousarray(scores[part], kind)), shift, sizes)
    ends = np.cumsum(sizes)
    free, keys = ends - sizes, np.empty(scores.size, np.dtype(f"u{kind.itemsize}"))
    for part in chunks(scores.size):
        bits = order_bits(np.ascontiguousarray(scores[part], kind))
        passes["place"](bits, np.ascontiguousarray(errors[part]), shift, free, keys)
    for code in np.flatnonzero(sizes > 1):
        _sort_bucket(keys[ends[code] - sizes[code] : ends[code]], passes["counting"])
    below = int(ends[CODES // 2 - 1])
    return keys[:below], keys[below:]


def _sort_bucket(keys: np.ndarray, counting: Callable[[np.ndarray], None]) -> None:
    if keys.itemsize > 4:
        keys.sort()
    elif keys.size >= _COUNTED:
        counting(keys)
    else:
        low = keys.astype(np.uint16)
        low.sort(kind="stable")  # a radix sort for 16 bits
        np.bitwise_or(low, keys[0] & np.uint32(0xFFFF0000), out=keys)


@cache
def _compiled() -> dict[str, Callable[..., Any]]:
    import numba

    @numba.njit(nogil=True)
    def count(bits, shift, sizes):
        for i in range(len(bits)):
            sizes[np.int64(np.uint64(bits[i]) >> shift)] += 1

    @numba.njit(nogil=True)
    def place(bits, wrong, shift, free, keys):
        for i in range(len(bits)):
            wide = np.uint64(bits[i])
            code = np.int64(wide >> shift)
            keys[free[code]] = (wide << np.uint64(1)) | np.uint64(wrong[i])
            free[code] += 1

    @numba.njit(nogil=True)
    def counting(keys):
        sizes = np.zeros(1 << 16, np.int64)
        high = keys[0] & np.uint32(0xFFFF0000)
        for i in range(len(keys)):
            sizes[np.int64(keys[i] & np.uint32(0xFFFF))] += 1
        at = 0
        for low in range(1 << 16):
            for _ in range(sizes[low]):
                keys[at] = high | np.uint32(low)
                at += 1

    ready.add("buckets")
    return {"count": count, "place": place, "counting": counting}
