"""The plots of a comparison of methods: paired differences, and what becomes of them on worse and worse images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .figures import DPI, png_bytes

PALETTE = (
    "#0b4f8a",
    "#a63c06",
    "#00664f",
    "#7a3e9d",
    "#8a6d3b",
    "#c2185b",
    "#3f7fbf",
    "#5b6470",
    "#111111",
    "#6a8f00",
)
"""One colour per method, in the order of the table; told apart by marker and dashes too."""
MARKERS = "osD^vP*Xph"
DASHES = ("solid", "dashed", "dashdot", "dotted")


def style(number: int) -> dict[str, Any]:
    """Colour, marker and dashes of the n-th method."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
    }


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=1.5 * DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(color="#e3e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def difference_plot(
    differences: Mapping[str, tuple[float, float, float]], metric: str, higher: bool
) -> bytes:
    """Each method's paired difference to the baseline with its interval; the side of the better ones is named.

    A method far away from all others is an arrow with its number, so that the others can be told apart.

    Args:
        differences: method -> (mean, low, high), NaN where undefined.
        metric: its name.
        higher: whether higher is better.
    """
    names = [n for n, v in differences.items() if all(math.isfinite(x) for x in v)]
    figure, axes = _figure(6.2, 0.9 + 0.36 * max(1, len(names)))
    limit = _reach([max(abs(x) for x in differences[n]) for n in names])
    for row, name in enumerate(reversed(names)):
        mean, low, high = differences[name]
        colour = _verdict(low, high, higher)
        if max(abs(low), abs(high)) > limit:
            side = math.copysign(limit, mean)
            axes.annotate(
                f"{mean:.2g}",
                xy=(side, row),
                xytext=(0.55 * side, row),
                color=colour,
                va="center",
                ha="center",
                arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.8},
            )
            continue
        axes.plot([low, high], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt")
        axes.plot([mean], [row], color=colour, marker="o", markersize=6)
    axes.axvline(0, color="#1b1f24", linewidth=1)
    axes.set_xlim(-1.05 * limit, 1.05 * limit)
    axes.set_yticks(range(len(names)), list(reversed(names)))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlabel(f"{metric} minus softmax entropy's  ({'right' if higher else 'left'} of 0 is better)")
    axes.xaxis.set_major_locator(_five_ticks())
    for text in axes.get_yticklabels():
        text.set_parse_math(False)
    return png_bytes(figure)


def _reach(extents: Sequence[float]) -> float:
    """The largest extent that is within ten times of the next smaller one; above it all are outliers.

    Example:
        >>> _reach([0.002, 0.001, 0.12])
        0.002
    """
    ordered = sorted(e for e in extents if e > 0)
    if not ordered:
        return 1.0
    reach = ordered[0]
    for extent in ordered[1:]:
        if extent > 10 * reach:
            break
        reach = extent
    return reach


def _verdict(low: float, high: float, higher: bool) -> str:
    """Green where the whole interval is better, orange where it is worse, grey otherwise."""
    better = low > 0 if higher else high < 0
    worse = high < 0 if higher else low > 0
    return "#00664f" if better else "#a63c06" if worse else "#5b6470"


def _five_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def lines_plot(
    series: Mapping[str, Sequence[tuple[float, float]]], across: str, up: str, diagonal: bool = False
) -> bytes:
    """One line per method; points with NaN are left out.

    Args:
        series: method -> (x, y) points.
        across: label of the x axis.
        up: label of the y axis.
        diagonal: draw x = y too.
    """
    figure, axes = _figure(5.2, 4.0)
    if diagonal:
        axes.plot([0, 1], [0, 1], color="#9aa3ad", linewidth=1, label="exactly as stated")
    for number, (name, points) in enumerate(series.items()):
        finite = [p for p in points if all(math.isfinite(v) for v in p)]
        if finite:
            look = style(number)
            if len(finite) > 20:
                look["marker"] = None
            axes.plot(*zip(*finite, strict=True), **look, markersize=4.5, linewidth=1.6, label=name)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    handles, _ = axes.get_legend_handles_labels()
    if handles:
        for text in axes.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)
    return png_bytes(figure)


def severity_plot(series: Mapping[str, Mapping[int, float]], title: str, up: str) -> bytes:
    """One line per method over severities 0 (clean) to 3."""
    figure, axes = _figure(3.9, 3.4)
    for number, (name, values) in enumerate(series.items()):
        points = [(s, v) for s, v in sorted(values.items()) if math.isfinite(v)]
        if points:
            axes.plot(*zip(*points, strict=True), **style(number), markersize=4, linewidth=1.5, label=name)
    axes.set_title(title, fontsize=11)
    axes.set_xlabel("severity (0 is clean)")
    axes.set_ylabel(up)
    axes.xaxis.get_major_locator().set_params(integer=True)
    return png_bytes(figure)


def legend_plot(names: Sequence[str]) -> bytes:
    """The legend alone, for plots that share it."""
    figure, axes = _figure(3.9, 0.4 + 0.22 * len(names))
    axes.set_axis_off()
    for number, name in enumerate(names):
        axes.plot([], [], **style(number), label=name)
    for text in axes.legend(frameon=False, fontsize=9, loc="center").get_texts():
        text.set_parse_math(False)
    return png_bytes(figure)
