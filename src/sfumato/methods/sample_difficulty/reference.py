"""Slow twins: the same numbers from full decompositions, loops and rationals, written down to be compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Float

Matrix = Float[np.ndarray, "rows columns"]


def reference_scale(matrix: Matrix, power: int = 2) -> float:
    """S from the full singular value decomposition; power 2 is the energy, 1 the amplitude convention."""
    values = [float(v) ** power for v in np.linalg.svd(matrix, full_matrices=True)[1]]
    entropy = 0.0
    for value in values:
        share = value / sum(values)
        if share > 0:
            entropy -= share * math.log(share)
    return entropy / math.log(len(values))


def reference_matrix(volume: Float[np.ndarray, "depth height width"], axis: str) -> Matrix:
    """The matrix of a map with one of D, H, W as rows, element by element."""
    depth, height, width = volume.shape
    shape = {"D": (depth, height * width), "H": (height, depth * width), "W": (width, depth * height)}[axis]
    matrix = np.zeros(shape)
    for d in range(depth):
        for h in range(height):
            for w in range(width):
                row, column = {
                    "D": (d, h * width + w),
                    "H": (h, d * width + w),
                    "W": (w, d * height + h),
                }[axis]
                matrix[row, column] = volume[d, h, w]
    return matrix


def reference_centred(matrix: Matrix, centre: str) -> Matrix:
    """The matrix itself, minus its rows' means, or minus its mean."""
    if centre == "none":
        return matrix
    return matrix - (matrix.mean(axis=1, keepdims=True) if centre == "row" else matrix.mean())


def released_scale(matrix: Matrix) -> float:
    """The scale as the authors' released function computes it, so that published numbers can be checked.

    It takes singular values, not their squares, adds 1e-6 to each, and replaces values that are not finite by 0: a map
    of zeros scores 1, the easiest.
    """
    values = np.linalg.svd(np.nan_to_num(matrix, nan=0.0, posinf=0.0, neginf=0.0), compute_uv=False) + 1e-6
    share = values / values.sum()
    return float(-(share * np.log(share)).sum() / math.log(len(share)))


def padded_energy_scale(matrix: Matrix, padding: float = 1e-8) -> float:
    """The energy convention with a constant in the denominator, which small maps suffer from."""
    values = np.linalg.svd(matrix, compute_uv=False) ** 2
    share = [v / (values.sum() + padding) for v in values]
    return -sum(p * math.log(p) for p in share if p > 0) / math.log(len(values))


def collision_scale(matrix: Matrix) -> float:
    """-ln(|G|^2 / tr(G)^2) / ln r, Renyi's entropy of order 2: needs no eigenvalues and never exceeds S."""
    gram = matrix @ matrix.T
    return -math.log(float((gram**2).sum()) / float(np.trace(gram)) ** 2) / math.log(min(matrix.shape))


def reference_difficulty(scales: Sequence[float], floor: float = 1e-6) -> list[float]:
    """AUV of a set of cases against themselves."""
    fine = [math.log(s) for s in scales if s >= floor]
    low, high = (min(fine), max(fine)) if fine else (0.0, 0.0)
    found = []
    for scale in scales:
        if not scale >= floor:  # NaN too
            found.append(1.0)
        elif high - low < 1e-12:
            found.append(0.0)
        else:
            found.append(1 - (math.log(scale) - low) / (high - low))
    return found


def reference_threshold(values: Sequence[float], share: Fraction) -> float:
    """inf { a : F(a) >= share } over the values themselves, F(a) the exact share of values up to a."""
    for candidate in sorted(values):
        if Fraction(sum(v <= candidate for v in values), len(values)) >= share:
            return candidate
    return math.inf


def reference_kept(values: Sequence[float], share: Fraction) -> list[bool]:
    """Cases up to the left quantile."""
    threshold = reference_threshold(values, share)
    return [v <= threshold for v in values]


def reference_class_kept(
    values: Mapping[str, Sequence[float]], share: Fraction, policy: str, target: Sequence[str] = ()
) -> list[bool]:
    """Cases that pass in any, in all, or in the target classes; a NaN, an absent class, passes."""
    passes = {}
    for name, column in values.items():
        threshold = reference_threshold([v for v in column if not math.isnan(v)], share)
        passes[name] = [math.isnan(v) or v <= threshold for v in column]
    count = len(next(iter(values.values())))
    judged = target if policy == "target" else list(values)
    decide = any if policy == "any" else all
    return [decide(passes[name][i] for name in judged) for i in range(count)]
