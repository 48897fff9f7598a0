"""Quality over cost of a cascade of promptable networks."""

from __future__ import annotations

from collections.abc import Mapping

from ..methods.sam_gaps.cascade import CascadeCurve, Costs
from .figures import png_bytes
from .plots import axes_of

STYLES = (
    ("#0b4f8a", "solid", 2.4),
    ("#8a6d3b", "dashed", 1.8),
    ("#9aa3ad", "dotted", 1.8),
    ("#00664f", "dashdot", 1.8),
)
"""Colour, dashes and width of the curves, in their order."""


def cascade_plot(curves: Mapping[str, CascadeCurve], costs: Costs) -> bytes:
    """A PNG of mean IoU over mean cost per prompt; the larger network alone is a cross.

    Args:
        curves: by name of the rule.
        costs: of both networks.
    """
    figure, axes = axes_of("mean cost per prompt (the cheap network alone: 1)", "mean true IoU")
    for (name, curve), (colour, dashes, width) in zip(curves.items(), STYLES, strict=False):
        axes.plot(
            curve.cost / costs.cheap, curve.iou, color=colour, linestyle=dashes, linewidth=width, label=name
        )
    last = next(iter(curves.values())).iou[-1]
    axes.plot(
        [costs.large / costs.cheap],
        [last],
        "x",
        color="#1b1f24",
        markersize=9,
        markeredgewidth=2,
        label="larger alone",
    )
    # Above the axes, as curves may run anywhere inside them.
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return png_bytes(figure)
