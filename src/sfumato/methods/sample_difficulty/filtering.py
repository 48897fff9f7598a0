"""Which cases to keep: the easiest share of them, overall or class by class.

Li et al., arXiv 2604.10963: with the empirical distribution F of AUV over the training set and its left quantile, keep
the cases with AUV at most F^-1(share). As order statistics: sort, k = ceil(share * N), keep all values up to the k-th.
AUV falls strictly with S, so any strictly rising function of AUV keeps the same cases.

Values are oriented as uncertainty is, higher = harder; inf is harder than any, and is what flagged cases should get.
Filter training cases only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ...errors import ConfigError, InputError, UnknownNameError

Share = str | Fraction | float
POLICIES = "any", "all", "target", "pairs"
SMALL_SET = "{count} cases and a share of {share:g}: less than one case would go, so ties aside none does."


@dataclass(frozen=True)
class Filtered:
    """What a filter keeps.

    Args:
        kept: of each case.
        wanted: k, the least number of cases (or of cases per class, summed) that the share asks for.
        thresholds: by class; under the empty name for a filter over whole cases. The largest value that is kept.
        pairs: by class, whether the case's class is kept; only for the policy `pairs`.
        warning: why the share will not do what it says; empty when there is nothing to say.
    """

    kept: Bool[np.ndarray, "cases"]
    wanted: int
    thresholds: Mapping[str, float]
    pairs: Mapping[str, Bool[np.ndarray, "cases"]] | None = None
    warning: str = ""

    @property
    def kept_share(self) -> float:
        """Share of the cases that are kept, whatever was asked for; NaN without cases."""
        return float(self.kept.mean()) if len(self.kept) else math.nan

    def by_patient(self, patients: Sequence[str]) -> Filtered:
        """All cases of a patient stay, or all go: a patient goes when each of their cases would.

        So nobody is lost over one poor scan, and more than the wanted share may stay; `kept_share` says how much.

        Args:
            patients: of each case.

        Raises:
            InputError: another number of patients than cases.
        """
        _check_length(patients, self.kept, "patients")
        staying = {p for p, kept in zip(patients, self.kept, strict=True) if kept}
        return replace(self, kept=np.array([p in staying for p in patients], dtype=bool))


def exact_share(share: Share) -> Fraction:
    """A share as the decimal number that was written: 0.07 is 7/100, not the float next to it.

    Raises:
        ConfigError: not a number above 0 and at most 1.

    Example:
        >>> exact_share(0.07), exact_share("0.95")
        (Fraction(7, 100), Fraction(19, 20))
    """
    try:
        found = share if isinstance(share, Fraction) else Fraction(str(share))
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"share={share!r}, expected a number such as 0.95.") from error
    if not 0 < found <= 1:
        raise ConfigError(f"share={share}, expected a number above 0 and at most 1.")
    return found


def kept_count(count: int, share: Share) -> int:
    """k = ceil(share * count), without rounding.

    Example:
        >>> kept_count(100, 0.07), kept_count(131, "0.95"), kept_count(10, "0.95")
        (7, 125, 10)
    """
    return math.ceil(exact_share(share) * count)


def quantile_filter(
    values: ArrayLike,
    share: Share,
    ties: Literal["keep", "strict_k"] = "keep",
    names: Sequence[str] | None = None,
) -> Filtered:
    """Keep the easiest share of the cases.

    Args:
        values: of each case, such as AUV; higher = harder.
        share: to keep, in (0, 1].
        ties: at the threshold: `keep` all, or keep `strict_k` cases exactly, by a hash of their names.
        names: of the cases, for `strict_k`; the choice depends on nothing else.

    Raises:
        ConfigError: a share or a way with ties that is not allowed, or `strict_k` without names.
        InputError: NaN among the values, or another number of names.

    Example:
        >>> quantile_filter([0.1, 0.2, 0.2, 0.9, 0.9, 0.9], "0.5").kept.tolist()
        [True, True, True, False, False, False]
        >>> quantile_filter([0.1, 0.2, 0.2, 0.9, 0.9, 0.9], "0.6").kept_share  # ties stay
        1.0
    """
    if ties not in ("keep", "strict_k"):
        raise ConfigError(f"ties={ties!r}, expected keep or strict_k.")
    found = np.asarray(values, dtype=np.float64)
    if np.isnan(found).any():
        raise InputError(
            f"{int(np.isnan(found).sum())} values are NaN, expected numbers, inf for flagged cases."
        )
    wanted, threshold = _threshold(found, share)
    kept = found <= threshold
    if ties == "strict_k":
        if names is None:
            raise ConfigError("ties='strict_k' without names, expected names of the cases to choose by.")
        _check_length(names, found, "names")
        order = sorted(range(len(found)), key=lambda i: (found[i], _digest(names[i]), names[i]))
        kept = np.zeros(len(found), dtype=bool)
        kept[order[:wanted]] = True
    return Filtered(kept, wanted, {"": threshold}, warning=_warning(len(found), share))


def class_filter(
    values: Mapping[str, Float[np.ndarray, "cases"]],
    share: Share,
    policy: Literal["any", "all", "target", "pairs"],
    target: Sequence[str] = (),
) -> Filtered:
    """Keep cases by the values of their classes, each class with its own quantile; ties stay.

    A class that is absent from a case, NaN, is not counted for its quantile and cannot fail there. What each policy
    drops is seldom the share that was asked for: were classes independent, `any` would drop (1 - share)^C of the
    cases and `all` 1 - share^C; see `Filtered.kept_share`.

    Args:
        values: by class; higher = harder, NaN where the class is absent.
        share: to keep, in (0, 1], of each class.
        policy: `any` keeps a case that passes in at least one class (the paper's union), `all` one that passes in every
            class, `target` one that passes in every class of `target`. `pairs` keeps all cases and says which classes
            of which cases to leave out, as voxels to be ignored.
        target: classes of interest, for `target`.

    Raises:
        ConfigError: another policy, a share that is not allowed, `target` without classes, or classes with another
            policy than `target`.
        UnknownNameError: a target that is not among the classes.
        InputError: no class, or classes with different numbers of cases.
    """
    _check_policy(values, policy, target)
    thresholds, passes, wanted, few = {}, {}, 0, ""
    for name, column in values.items():
        found = np.asarray(column, dtype=np.float64)
        there = ~np.isnan(found)
        count, thresholds[name] = _threshold(found[there], share)
        wanted += count
        passes[name] = ~there | (found <= thresholds[name])
        few = few or _warning(int(there.sum()), share)
    chosen = np.stack([passes[name] for name in (target or passes)])
    if policy == "pairs":
        everything = np.ones(chosen.shape[1], dtype=bool)
        return Filtered(everything, wanted, thresholds, passes, few)
    kept = np.logical_or.reduce(chosen) if policy == "any" else np.logical_and.reduce(chosen)
    return Filtered(kept, wanted, thresholds, warning=few)


def _check_policy(values: Mapping[str, ArrayLike], policy: str, target: Sequence[str]) -> None:
    if policy not in POLICIES:
        raise ConfigError(f"policy={policy!r}, expected one of {', '.join(POLICIES)}.")
    if (policy == "target") != bool(target):
        raise ConfigError(
            f"policy={policy!r} with target={tuple(target)}, expected classes with 'target' and none without it."
        )
    for name in target:
        if name not in values:
            raise UnknownNameError("class", name, values)
    lengths = sorted({len(np.asarray(v)) for v in values.values()})
    if len(lengths) != 1:
        raise InputError(f"Classes with {lengths} cases, expected one number of cases for all of them.")


def _threshold(values: Float[np.ndarray, "cases"], share: Share) -> tuple[int, float]:
    count = kept_count(len(values), share)
    return count, float(np.sort(values)[count - 1]) if count else math.inf


def _warning(count: int, share: Share) -> str:
    exact = exact_share(share)
    few = exact < 1 and count * (1 - exact) < 1
    return SMALL_SET.format(count=count, share=float(exact)) if few else ""


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _check_length(items: Sequence[str], values: np.ndarray, what: str) -> None:
    if len(items) != len(values):
        raise InputError(f"{len(items)} {what} for {len(values)} cases, expected one for each.")
