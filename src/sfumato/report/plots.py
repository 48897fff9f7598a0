"""The three plots of an index page: reliability, risk against coverage, and the case scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .curves import Curves
from .figures import DPI, png_bytes

LINES = (("#8a6d3b", "o", "dashed"), ("#0b4f8a", "s", "solid"), ("#7a3e9d", "^", "dotted"))
"""Colour, marker and dashes of the first, second and third series."""
SIZE = (4.4, 3.8)
BINS = 20


def axes_of(across: str, up: str) -> tuple[Any, Any]:
    """An empty figure with one pair of axes, named `across` and `up`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=1.5 * DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _legend(axes: Any) -> None:
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        for text in axes.legend(frameon=False, fontsize=9).get_texts():
            text.set_parse_math(False)


def _styles(names: Sequence[str]):
    return zip(names, (LINES[i % len(LINES)] for i in range(len(names))), strict=True)


def reliability_plot(curves: Curves) -> bytes:
    """How often the most likely class is right against its stated probability."""
    figure, axes = axes_of("stated probability", "share that is right")
    axes.plot([0, 1], [0, 1], color="#9aa3ad", linewidth=1, label="exactly as stated")
    lowest = 1.0
    for name, (colour, marker, dashes) in _styles(list(curves.reliability)):
        bins = curves.reliability[name]
        points = [
            (c, a) for c, a, n in zip(bins.confidence, bins.accuracy, bins.count, strict=True)
            if n > 0 and math.isfinite(c) and math.isfinite(a)
        ]  # fmt: skip
        if not points:
            continue
        lowest = min(lowest, *(min(p) for p in points))
        label = f"{name} (calibration error {bins.ece:.3f})"
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            marker=marker,
            markersize=4.5,
            linestyle=dashes,
            label=label,
        )
    start = max(0.0, math.floor(10 * lowest - 0.5) / 10) if lowest < 1 else 0.0
    axes.set(xlim=(start, 1.01), ylim=(start, 1.01))
    _legend(axes)
    return png_bytes(figure)


def risk_coverage_plot(curves: Curves) -> bytes:
    """Error among the most trusted voxels against how many are trusted."""
    figure, axes = axes_of("share of voxels trusted", "share of those that is wrong")
    for name, (colour, _, dashes) in _styles(list(curves.risk_coverage)):
        series = curves.risk_coverage[name]
        if series.coverage:
            axes.plot(series.coverage, series.risk, color=colour, linestyle=dashes, linewidth=2, label=name)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(bottom=0)
    _legend(axes)
    return png_bytes(figure)


def _edges(values: Sequence[float], thresholds: Sequence[float]) -> np.ndarray:
    """About `BINS` equal bins over the values, one edge just above the first threshold (still accepted)."""
    low, high = min(values), max(values)
    width = (high - low) / BINS or 0.1 * max(abs(low), 1.0)
    start = np.nextafter(thresholds[0], math.inf) if thresholds else low
    # The small shift keeps the lowest value in when rounding puts it just below its edge.
    first, last = math.floor((low - start) / width - 1e-9), math.floor((high - start) / width) + 1
    return start + width * np.arange(first, last + 1)


def score_plot(scores: dict[str, list[float]], thresholds: Sequence[float]) -> bytes:
    """Histogram of the case scores by verdict, with the limit.

    Args:
        scores: finite scores by verdict (`accept`, `review`, `no decision`).
        thresholds: finite limits, usually one.
    """
    figure, axes = axes_of("score of the case (higher = more likely wrong)", "cases")
    everything = [s for values in scores.values() for s in values]
    looks = {"accept": ("#00664f", None), "review": ("#d9793f", "///"), "no decision": ("#8b95a1", None)}
    if everything:
        edges = _edges([*everything, *thresholds], thresholds)
        names = [name for name in looks if scores.get(name)]
        axes.hist(
            [scores[name] for name in names],
            bins=edges.tolist(),
            stacked=True,
            label=names,
            color=[looks[name][0] for name in names],
            hatch=[looks[name][1] or "" for name in names],
            edgecolor="white",
            linewidth=0.6,
        )
    else:
        axes.text(0.5, 0.5, "no case has a score", ha="center", va="center", transform=axes.transAxes)
    for at in thresholds:
        axes.axvline(at, color="#1b1f24", linestyle="dashed", linewidth=1.6, label=f"limit {at:.3g}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    _legend(axes)
    return png_bytes(figure)
