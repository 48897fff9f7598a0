"""Which map of doubt a page shows, what it means and over which range it is coloured."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..pipeline.result import CaseResult, unit
from ..types import Kind
from .views import View

PREFERRED = (
    Kind.ERROR,
    Kind.RANKING,
    Kind.EPISTEMIC,
    Kind.PREDICTIVE,
    Kind.ALEATORIC,
    Kind.PROMPT,
    Kind.TASK,
)
"""The first of these that a case has is the map to show."""
TITLES = {
    Kind.ERROR: "Probability of being wrong",
    Kind.RANKING: "Ranking of likely mistakes",
    Kind.EPISTEMIC: "Doubt of the model",
    Kind.PREDICTIVE: "Entropy of the probability (nats)",
    Kind.ALEATORIC: "Ambiguity of the image",
    Kind.PROMPT: "Doubt a better prompt would fix",
    Kind.TASK: "Doubt a clearer task would fix",
    None: "1 - largest class probability",
}
FIXED = {Kind.ERROR: (0.0, 0.5), Kind.PREDICTIVE: (0.0, math.log(2.0)), None: (0.0, 0.5)}
"""Ranges that are the same for every case, so that colours compare between cases. A half, and ln 2 nats, are
what a voxel reaches that is undecided between two classes."""
TOP_SHARE = 99.8
"""Percentile of the shown planes at which the colours end where the range is a case's own."""


@dataclass(frozen=True)
class Shading:
    """A map and how it is coloured.

    Args:
        title: for people.
        values: (*grid) as stored, codes of 1/255 or floats.
        low: value of the darkest colour.
        high: value of the brightest colour; larger values look the same.
        fixed: whether the range is the same for every case.
    """

    title: str
    values: np.ndarray
    low: float
    high: float
    fixed: bool

    def take(self, view: View) -> np.ndarray:
        """One plane as float32."""
        return unit(view.take(self.values))


def choose_map(result: CaseResult) -> tuple[Kind | None, np.ndarray]:
    """The map to show; a method without maps gets 1 - largest class probability, under the kind None."""
    for kind in PREFERRED:
        if kind in result.maps:
            return kind, result.maps[kind]
    largest = result.probability.max(axis=0)
    return None, (255 - largest) if largest.dtype == np.uint8 else 1 - largest


def shade(kind: Kind | None, values: np.ndarray, views: tuple[View, ...]) -> Shading:
    """Decide the range: fixed where the numbers mean something, otherwise from the planes that are shown."""
    if kind in FIXED:
        return Shading(TITLES[kind], values, *FIXED[kind], True)
    seen = np.concatenate([unit(view.take(values)).ravel() for view in views])
    low, high = float(seen.min()), float(np.percentile(seen, TOP_SHARE))
    return Shading(TITLES[kind], values, low, high if high > low else low + 1.0, False)
