"""Why a case stands out, in words: its most extreme columns and how many cases they exceed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from .table import OK, Row

WORDS = {
    "auv": ("Its features vary in few directions", "AUV"),
    "size_residual": ("Its features vary in fewer directions than its size explains", "AUV beyond size"),
    "neighbour_distance": ("Unlike the other images", "distance to its neighbours"),
    "atypicality": ("Far from the usual image", "atypicality"),
    "damage": ("Looks like a damaged copy of the others", "damage"),
    "boundary_contrast": ("Weak edges along its outlines", "boundary contrast"),
    "disagreement": ("Segmenters that never saw it outline it otherwise", "disagreement"),
    "surprise": ("Its label differs more than the segmenters expect", "surprise"),
    "softmin": ("Single spots of its label look wrong to the segmenters", "softmin"),
}
"""Column -> what a high value means, and what the value is called."""
UNUSUAL = 0.9
"""Share of cases a value has to exceed to be named."""
NAMED = 2
"""Reasons at most."""
STATUSES = {
    "empty": "Its maps are zero everywhere: an image without content?",
    "constant": "Its maps are the same everywhere: an image without content?",
    "single": "Its maps have a single row, which has no spectrum.",
    "nonfinite": "Its maps hold NaN or infinite numbers.",
    "error": "It could not be scored.",
}
"""What a status other than `ok` means."""


def shares_below(values: Sequence[float]) -> np.ndarray:
    """Share of the defined values that lie below each; ties count half, NaN where undefined.

    Example:
        >>> shares_below([1.0, 3.0, float("nan"), 2.0]).round(3).tolist()
        [0.167, 0.833, nan, 0.5]
    """
    array = np.asarray(values, float)
    known = np.isfinite(array)
    shares = np.full(len(array), np.nan)
    if known.any():
        shares[known] = (rankdata(array[known]) - 0.5) / known.sum()
    return shares


def reasons_of(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Per case up to two sentences, the most unusual first; what its status means where it is not ok."""
    shares = {name: shares_below([row[name] for row in rows]) for name in WORDS}
    found = []
    for i, row in enumerate(rows):
        if row["status"] != OK:
            found.append((STATUSES.get(row["status"], row["status"]),))
            continue
        own = sorted(((shares[name][i], name) for name in WORDS), key=lambda pair: (-pair[0], pair[1]))
        unusual = [(share, name) for share, name in own if share >= UNUSUAL][:NAMED]
        found.append(tuple(_sentence(row, name, share) for share, name in unusual))
    return found


def _sentence(row: Row, name: str, share: float) -> str:
    meaning, called = WORDS[name]
    if name == "damage":
        meaning = f"{meaning}, most of all by {row['damage_kind']}"
    # Rounded down: no case exceeds all cases.
    return f"{meaning} ({called} above {int(100 * share)} % of cases)."
