"""Three numbers to sort by: is the image odd, is the label doubtful, and the worse of both.

Scores of different units are compared by rank: the share of a stored reference that lies below a case. Within a group
of scores that see the same thing the mean of the ranks counts; between groups that see different things the highest
does, as a case that one of them finds odd is odd.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from ...errors import InputError

IMAGE_GROUPS = (("neighbour_distance", "atypicality"), ("damage",))
"""Unlike all others; like a damaged copy of others."""
LABEL_GROUPS = (("surprise", "softmin"),)
"""Further from the model than the model expects, over the whole label and in its worst voxels."""


def ranks(
    values: Float[np.ndarray, "cases"], reference: Float[np.ndarray, "reference"]
) -> Float[np.ndarray, "cases"]:
    """Share of the reference below each value, ties counting half; in [0, 1], NaN where undefined.

    A value that the reference lacks altogether, because none of it is defined there, is undefined.

    Example:
        >>> ranks(np.array([1.0, 2.5, np.nan]), np.array([1.0, 2.0, 3.0, np.nan])).tolist()
        [0.16666666666666666, 0.6666666666666666, nan]
    """
    known = np.sort(reference[np.isfinite(reference)])
    if not len(known):
        return np.full(len(values), np.nan)
    below, up_to = (np.searchsorted(known, values, side=side) for side in ("left", "right"))
    return np.where(np.isfinite(values), (below + up_to) / (2 * len(known)), np.nan)


def combine(
    columns: Mapping[str, Float[np.ndarray, "cases"]],
    reference: Mapping[str, Float[np.ndarray, "reference"]],
) -> dict[str, Float[np.ndarray, "cases"]]:
    """`image`, `label` and `difficulty` of every case, in [0, 1], higher = more doubtful.

    What is undefined (no label, no segmenter, no copies to learn damage from) is left out; NaN where nothing is left.

    Args:
        columns: scores of the cases by name; those of `IMAGE_GROUPS` and `LABEL_GROUPS` count, others do not.
        reference: the same of the stored reference.

    Raises:
        InputError: none of the columns that count.

    Example:
        >>> reference = {"neighbour_distance": np.arange(4.0), "surprise": np.arange(4.0)}
        >>> cases = {"neighbour_distance": np.array([0.0, 9.0]), "surprise": np.array([9.0, np.nan])}
        >>> found = combine(cases, reference)
        >>> {name: values.tolist() for name, values in found.items()}
        {'image': [0.125, 1.0], 'label': [1.0, nan], 'difficulty': [1.0, 1.0]}
    """
    known = {name for group in (*IMAGE_GROUPS, *LABEL_GROUPS) for name in group}
    usable = {name: ranks(columns[name], reference[name]) for name in known & set(columns) & set(reference)}
    if not usable:
        raise InputError(f"Columns {sorted(columns)}, expected some of {', '.join(sorted(known))}.")
    count = len(next(iter(columns.values())))
    image = _highest([_mean([usable[n] for n in group if n in usable], count) for group in IMAGE_GROUPS])
    label = _highest([_mean([usable[n] for n in group if n in usable], count) for group in LABEL_GROUPS])
    return {"image": image, "label": label, "difficulty": _highest([image, label])}


def _mean(values: list[np.ndarray], count: int) -> np.ndarray:
    """Mean over what is defined, case by case."""
    table = np.array(values).reshape(len(values), count)
    defined = np.isfinite(table)
    total = np.where(defined, table, 0).sum(axis=0)
    return np.where(defined.any(axis=0), total / np.maximum(defined.sum(axis=0), 1), np.nan)


def _highest(values: list[np.ndarray]) -> np.ndarray:
    return np.fmax.reduce(values)
