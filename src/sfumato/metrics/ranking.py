"""Would the order of methods survive other patients?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .bootstrap import RESAMPLES, Interval, resample_weights, resampled_interval


@dataclass(frozen=True)
class RankStability:
    """Of one method: how often it comes first, and its mean rank with an interval over resamples.

    Args:
        first: share of resamples in which it is best, in [0, 1]; k methods that tie for it get 1 / k each.
        rank: mean rank, 1 is best; ties share their mean rank. `count` and `undefined` are resamples.
    """

    first: float
    rank: Interval


def rank_stability(
    values: Mapping[str, Sequence[float] | np.ndarray],
    patients: Sequence[str],
    higher_is_better: bool,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> dict[str, RankStability]:
    """Rank methods by their mean over cases in every resample of patients (Wiesenfarth et al., 2021).

    All methods see the same resamples. A case that is undefined for one method is left out for all.

    Args:
        values: method -> one value per case; NaN where undefined.
        patients: of each case.
        higher_is_better: of the values.
        seed: of the resampling.
        resamples: how many.
        level: of the interval.

    Raises:
        InputError: no method, not one value per case, or no case that every method has.

    Example:
        >>> values = {"a": [0.9, 0.8, 0.9], "b": [0.5, 0.6, 0.4]}
        >>> rank_stability(values, ["1", "2", "3"], higher_is_better=True)["a"].first
        1.0
    """
    if not values or any(len(v) != len(patients) for v in values.values()):
        raise InputError(f"{len(values)} methods, expected some with {len(patients)} values each.")
    table = np.array([np.asarray(v, dtype=float) for v in values.values()])
    known = np.isfinite(table).all(0)
    if not known.any():
        raise InputError("No case has a value for every method, expected at least one.")
    _, owner = np.unique(np.asarray(patients)[known], return_inverse=True)
    weights = resample_weights(int(owner.max()) + 1, resamples, seed)
    size = weights @ np.bincount(owner)
    means = {
        n: (weights @ np.bincount(owner, weights=row)) / size
        for n, row in zip(values, table[:, known], strict=True)
    }
    return rank_resamples(means, higher_is_better, level)


def rank_resamples(
    resampled: Mapping[str, np.ndarray], higher_is_better: bool, level: float = 0.95
) -> dict[str, RankStability]:
    """The same from values of resamples that all methods share, such as those of `resampled_areas`.

    A resample in which a method is undefined is left out; without any other, all is NaN.

    Example:
        >>> result = rank_resamples({"a": np.array([1.0, 2, 3]), "b": np.array([1.0, 1, 4])}, False)
        >>> result["b"].first, result["b"].rank.value
        (0.5, 1.5)
    """
    table = np.stack([np.asarray(v, dtype=float) for v in resampled.values()], axis=1)
    defined = np.isfinite(table).all(1)
    table = (-table if higher_is_better else table)[defined]
    better = (table[:, None, :] < table[:, :, None]).sum(2)
    equal = (table[:, None, :] == table[:, :, None]).sum(2)
    ranks, first = 1 + better + (equal - 1) / 2, (better == 0) / equal
    lost, nan = int((~defined).sum()), float("nan")
    result = {}
    for column, name in enumerate(resampled):
        if not len(table):
            result[name] = RankStability(nan, Interval(nan, nan, nan, 0, lost))
            continue
        mean = resampled_interval(float(ranks[:, column].mean()), ranks[:, column], level)
        rank = Interval(mean.value, mean.low, mean.high, mean.count, lost)
        result[name] = RankStability(float(first[:, column].mean()), rank)
    return result
