"""Histogram of a score over a data set."""

from __future__ import annotations

from collections.abc import Sequence

from .figures import png_bytes
from .plots import BINS, axes_of


def histogram(values: Sequence[float], label: str) -> bytes:
    """A PNG with the number of cases per bin.

    Args:
        values: finite, at least one.
        label: of the horizontal axis.
    """
    figure, axes = axes_of(label, "cases")
    axes.hist(values, bins=BINS, color="#0b4f8a", edgecolor="white", linewidth=0.6)
    axes.yaxis.get_major_locator().set_params(integer=True)
    return png_bytes(figure)
