"""Sums of reciprocals, without the digits that a difference of two harmonic numbers loses.

H(n) = 1 + 1/2 + ... + 1/n. Small numbers come from a table, large ones from the Euler-Maclaurin expansion
H(n) = ln n + gamma + 1/(2n) - 1/(12 n^2) + 1/(120 n^4) - 1/(252 n^6) (Abramowitz and Stegun 6.3.18), whose terms are
subtracted in closed form. From n = 64 on, what is left out is below 2e-17.
"""

from __future__ import annotations

import numpy as np

_FAR = 64


def _table(weighted: bool) -> np.ndarray:
    # Entry [start, end] sums from start + 1 to end, so that nothing is subtracted.
    table = np.zeros((_FAR, _FAR + 1))
    for start in range(_FAR):
        n = np.arange(start + 1, _FAR + 1)
        table[start, start + 1 :] = np.cumsum((n - start) / n if weighted else 1 / n)
    return table


_GAPS, _WEIGHTED = _table(False), _table(True)
_SERIES = 0.125
"""Below this x - ln(1 + x) loses digits to the difference, and seven terms of a series give all of them."""


def harmonic_gap(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """H(start + length) - H(start) for whole numbers >= 0, of any shape; relative error below 1e-13.

    Example:
        >>> round(float(harmonic_gap(np.array(0), np.array(3))), 12)
        1.833333333333
        >>> bool(abs(harmonic_gap(np.array(10**8), np.array(1)) * (10**8 + 1) - 1) < 1e-13)
        True
    """
    start, length = np.broadcast_arrays(np.asarray(start, float), np.asarray(length, float))
    end = start + length
    low = np.maximum(start, _FAR)
    gap = _far_gap(low, np.maximum(end, _FAR) - low)
    near = start < _FAR
    if near.any():
        gap = np.array(gap)
        gap[near] += _GAPS[start[near].astype(int), np.minimum(end[near], _FAR).astype(int)]
    return gap


def weighted_gap(start: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Sum over j = 1..length of j / (start + j), which is length - start (H(start + length) - H(start)).

    Whole numbers >= 0, of any shape; relative error below 1e-13.

    Example:
        >>> bool(abs(weighted_gap(np.array(10**8), np.array(1)) * (10**8 + 1) - 1) < 1e-13)
        True
    """
    start, length = np.broadcast_arrays(np.asarray(start, float), np.asarray(length, float))
    near = start < _FAR
    total = np.array(_far_weighted(np.maximum(start, _FAR), length))
    if near.any():
        first, last = start[near], (start + length)[near]
        beyond = np.maximum(last - _FAR, 0)
        total[near] = beyond - first * _far_gap(np.array(float(_FAR)), beyond)
        total[near] += _WEIGHTED[first.astype(int), np.minimum(last, _FAR).astype(int)]
    return total


def _far_gap(low: np.ndarray, length: np.ndarray) -> np.ndarray:
    a, c = 1 / low, 1 / (low + length)
    return np.log1p(length * a) - length * a * c * _correction(a, c)


def _far_weighted(low: np.ndarray, length: np.ndarray) -> np.ndarray:
    a, c = 1 / low, 1 / (low + length)
    return low * _beyond_log(length * a) + length * c * _correction(a, c)


def _correction(a: np.ndarray, c: np.ndarray) -> np.ndarray:
    # a - c is length * a * c, and every odd-order difference of powers has it as a factor.
    both, squares = a + c, a * a + c * c
    return 0.5 - both / 12 + both * squares / 120 - both * (squares * squares - a * a * c * c) / 252


def _beyond_log(x: np.ndarray) -> np.ndarray:
    # x - ln(1 + x). With s = x / (2 + x): ln(1 + x) = 2 (s + s^3/3 + s^5/5 + ...) and x - 2 s = x s.
    s = x / (2 + x)
    square = s * s
    tail = np.full_like(square, 1 / 13)
    for odd in (11, 9, 7, 5, 3):
        tail = tail * square + 1 / odd
    small = x < _SERIES
    return np.where(small, s * (x - 2 * square * tail), x - np.log1p(x))
