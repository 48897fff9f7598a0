"""The scale of class maps from a Gram matrix, beside the singular values of `torch.linalg.svd`.

Both sides get the same float32 maps of D slices of D x D pixels: clipped distances to balls of several sizes, with
noise. The Gram matrix is accumulated in float64. Errors of S are against a singular value decomposition in float64.
Ratios `gram_vs_svd_D` are CPU seconds of the decomposition over ours, and `gram_vs_svdvals_D` likewise of singular
values without vectors: above 1, ours is cheaper. Peak memory is what one call adds in a fresh process that already
holds the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.measures.spectrum import gram, row_gram, spectral_entropy, spectrum

from .measure import machine, peak_memory, timed

SIZES = (64, 96, 128)
CLASSES = 4
LONGER = 16
"""The wide map of the memory rows has this many times as many columns."""
LEAST_SEEN = 1 << 16
"""Bytes below which a process's high-water mark shows nothing."""
AGREEMENT = 1e-8


def make_maps(side: int) -> Tensor:
    """(classes, side, side^2) float32: clipped distances to the surface of a ball, as logits, with noise."""
    generator = torch.Generator().manual_seed(side)
    axis = torch.arange(side) - (side - 1) / 2
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()
    balls = [(side * share - radius).clamp(-10, 10) for share in torch.linspace(0.1, 0.4, CLASSES)]
    maps = torch.stack(balls).flatten(2)
    return maps + 0.3 * torch.randn(maps.shape, generator=generator)


def ours(maps: Tensor) -> Tensor:
    """S of every map."""
    return spectral_entropy(spectrum(gram(maps)))


def svd(maps: Tensor) -> Tensor:
    """S of every map from its singular value decomposition."""
    return spectral_entropy(torch.linalg.svd(maps, full_matrices=False)[1].double() ** 2)


def svdvals(maps: Tensor) -> Tensor:
    """S of every map from its singular values alone, for which no vectors are formed."""
    return spectral_entropy(torch.linalg.svdvals(maps).double() ** 2)


def wide_gram(side: int, columns: int) -> Callable[[], Any]:
    """A call of ours on one map of so many columns."""
    matrix = torch.randn(side, columns, generator=torch.Generator().manual_seed(0))
    return lambda: row_gram(matrix)


def wide_svd(side: int, columns: int) -> Callable[[], Any]:
    """A call of the rival on one map of so many columns."""
    matrix = torch.randn(side, columns, generator=torch.Generator().manual_seed(0))
    return lambda: torch.linalg.svd(matrix, full_matrices=False)


def run(repeats: int = 5, size: Sequence[int] = SIZES, peaks: bool = True) -> dict[str, Any]:
    """Measure both sides at every size, all in this run.

    Args:
        repeats: timed calls per side.
        size: numbers of slices.
        peaks: measure peak memory too.

    Raises:
        SystemExit: ours and the decomposition disagree.
    """
    torch.set_num_threads(1)
    rows, ratios, errors = [], {}, []
    for side in size:
        maps = make_maps(side)
        exact = svd(maps.double())
        cost = {}
        for name, function in (("svd", svd), ("svdvals", svdvals), ("gram", ours)):
            error = float((function(maps) - exact).abs().max())
            cost[name] = timed(lambda f=function, m=maps: f(m), repeats)
            rows.append({"side": name, "slices": side, "classes": CLASSES, **cost[name], "error": error})
        errors.append(rows[-1]["error"])
        for name in ("svd", "svdvals"):
            ratios[f"gram_vs_{name}_{side}"] = cost[name]["cpu_min"] / cost["gram"]["cpu_min"]
    if max(errors) > AGREEMENT:
        raise SystemExit(
            f"S differs by {max(errors):.2e} from the decomposition's, expected at most {AGREEMENT}."
        )
    if peaks:
        rows += _memory(max(size))
        ratios["memory_growth"] = rows[-1]["peak_mib"] / rows[-2]["peak_mib"]
    return {
        "name": "difficulty_spectrum",
        "machine": machine(),
        "size": list(size),
        "direction": "gram_vs_svd, gram_vs_svdvals: CPU seconds of the decomposition over ours, higher is better; "
        f"memory_growth: peak memory of ours with {LONGER} times the columns over that with side^2, 1 is best",
        "rows": rows,
        "ratios": ratios | {"entropy_error": max(errors)},
    }


def _memory(side: int) -> list[dict[str, Any]]:
    found = []
    for name, prepare, columns in (
        ("svd", wide_svd, side**2),
        ("gram", wide_gram, side**2),
        ("gram", wide_gram, LONGER * side**2),
    ):
        peak = max(peak_memory(prepare, side, columns), LEAST_SEEN) / 2**20
        found.append({"side": name, "slices": side, "columns": columns, "peak_mib": peak})
    return found
