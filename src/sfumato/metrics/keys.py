"""Scores as unsigned integers of the same order, so that ranking needs neither a float sort nor an arg-sort.

`order_bits(a) < order_bits(b)` exactly when a < b, and equal exactly when a == b: -0.0 and 0.0 are one score.
Shifted left by one with the error in the lowest bit, a key loses only its top bit, which says on which side of zero
the score lies. Keys of the two sides are kept apart, so nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import InputError

CHUNK = 1 << 17
"""Voxels worked on at a time: every temporary stays in the processor's cache."""

_SMALL = tuple(np.dtype(t) for t in ("bool", "int8", "uint8", "int16", "uint16", "float16", "float32"))
_MIDDLE = tuple(np.dtype(t) for t in ("int32", "uint32", "float64"))
_WIDE = tuple(np.dtype(t) for t in ("int64", "uint64"))


def flat_pair(scores: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores and boolean errors as vectors; a view where that is possible.

    Raises:
        InputError: not one error per score.
    """
    scores, errors = np.ravel(np.asarray(scores)), np.ravel(np.asarray(errors))
    if scores.shape != errors.shape:
        raise InputError(f"{scores.size} scores and {errors.size} errors, expected one error per score.")
    return scores, errors if errors.dtype == bool else errors != 0


def chunks(count: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover `count` entries in order.

    Example:
        >>> [(part.start, part.stop) for part in chunks(5, 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def exact_type(dtype: np.dtype) -> np.dtype:
    """The type with keys that holds every value of `dtype` exactly: float32, float64, int64 or uint64.

    Raises:
        InputError: there is none, such as for complex numbers or float128.
    """
    if dtype.newbyteorder("=") in _SMALL:
        return np.dtype(np.float32)
    if dtype.newbyteorder("=") in _MIDDLE:
        return np.dtype(np.float64)
    if dtype.newbyteorder("=") in _WIDE:
        return dtype.newbyteorder("=")
    raise InputError(f"Scores are {dtype}, expected float16, float32, float64 or integers.")


def order_bits(values: np.ndarray) -> np.ndarray:
    """Unsigned integers of the same width and order as float32, float64, int64 or uint64 values.

    Raises:
        InputError: a value is NaN or infinite.

    Example:
        >>> order_bits(np.float32([-1, -0.0, 0.0, 1])).tolist()
        [1082130431, 2147483648, 2147483648, 3212836864]
    """
    if values.dtype == np.uint64:
        return values
    width = values.dtype.itemsize * 8
    unsigned, signed = np.dtype(f"u{width // 8}"), np.dtype(f"i{width // 8}")
    top = unsigned.type(1 << (width - 1))
    if values.dtype.kind == "i":
        return values.view(unsigned) ^ top
    if not np.isfinite(values).all():
        raise InputError("A score is NaN or infinite, expected finite numbers.")
    bits = (values + values.dtype.type(0)).view(unsigned)  # -0.0 + 0 is 0.0
    # A negative float grows as its magnitude bits shrink, so all its bits are turned over.
    return bits ^ ((bits.view(signed) >> (width - 1)).view(unsigned) | top)


def sorted_keys(scores: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Packed keys below zero and from zero on, each sorted; 4 or 8 bytes per voxel in all.

    Args:
        scores: (voxels,) finite.
        errors: (voxels,) bool.

    Returns:
        Two views of one array of unsigned integers: the order of the score, shifted left by one, with the error
        in the lowest bit. Every key of the first stands for a smaller score than every key of the second.

    Raises:
        InputError: a score is not finite, or of a type without exact keys.
    """
    kind = exact_type(scores.dtype)
    width = kind.itemsize * 8
    keys = np.empty(scores.size, np.dtype(f"u{kind.itemsize}"))
    front, back = 0, scores.size
    for part in chunks(scores.size):
        bits = order_bits(np.ascontiguousarray(scores[part], kind))
        packed = (bits << 1) | errors[part]
        upper = (bits >> (width - 1)).astype(bool)
        above = packed if upper.all() else packed[upper]
        below = packed[:0] if above.size == packed.size else packed[~upper]
        keys[front : front + above.size] = above
        keys[back - below.size : back] = below
        front, back = front + above.size, back - below.size
    keys[:front].sort()
    keys[front:].sort()
    return keys[front:], keys[:front]
