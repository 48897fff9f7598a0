"""What the numbers of a page mean, in words, and how they are written."""

from __future__ import annotations

import math

from ..types import Kind

_ORDER = "higher is more doubtful, only the order of cases counts."
MEANINGS = {
    Kind.ERROR: "Expected 1 - Dice: about 0 where the outline should match a correct one, 1 where nothing "
    "should overlap.",
    Kind.PREDICTIVE: "Mean entropy of the probability where something was found, in nats: 0 is certain, 0.69 "
    "is undecided between two classes.",
    Kind.ALEATORIC: f"How ambiguous the image itself is; {_ORDER}",
    Kind.EPISTEMIC: "How unsure the model is of its own answer, for instance because the case is unlike "
    f"those it learned from; {_ORDER}",
    Kind.RANKING: f"How likely mistakes are where something was found; {_ORDER}",
    Kind.PROMPT: f"How much a better prompt would help; {_ORDER}",
    Kind.TASK: f"How much a clearer task would help; {_ORDER}",
}
"""One sentence per case score."""
VOLUMES = (
    "Outlined counts what lies inside the contours; expected adds up the calibrated probability. A large "
    "difference means that much of it is uncertain."
)


def amount(ml: float, pixel: float | None = None) -> str:
    """A volume in ml, or an area in pixels where `pixel` is the number that stands for one pixel.

    Example:
        >>> amount(1.6384), amount(1234.5), amount(0.532, pixel=0.001)
        ('1.638', '1,234.5', '532')
    """
    if pixel is not None:
        return f"{ml / pixel:,.0f}"
    return f"{ml:,.3f}" if ml < 10 else f"{ml:,.1f}"


def percent(share: float) -> str:
    """A signed change in per cent, without a sign before nothing.

    Example:
        >>> percent(0.0312), percent(-0.0001)
        ('+3.1 %', '0.0 %')
    """
    text = f"{100 * share:+.1f}"
    return f"{'0.0' if float(text) == 0 else text} %"


def score(value: float) -> str:
    """A case score with three decimals, or three digits where those say nothing.

    Example:
        >>> score(0.19342), score(0.00021), score(float("nan"))
        ('0.193', '0.00021', 'not finite')
    """
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def intensity(value: float) -> str:
    """An intensity with about three digits.

    Example:
        >>> intensity(459213.0), intensity(-0.21971)
        ('459,213', '-0.22')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
