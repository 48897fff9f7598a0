"""Calibration of any number of voxels, as counters that give the same bits in every order, chunking and merging.

A confidence is the probability of the label that was given, in [0, 1]. Confidences and Brier scores are summed as
whole numbers of 2^-32, likelihoods as whole numbers of 2^-28, each voxel rounded to the nearest: a mean is at most
1.2e-10 off for ECE and Brier score and 1.9e-9 for the likelihood. A sum is an int64, which holds at least 2^31 voxels
of confidence 1, 2^30 of Brier score 2 and 1.2e9 of the worst likelihood; an update or a merge that could pass it is
refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import ConfigError, InputError
from .calibration import BINS, LEAST_PROBABILITY, Reliability
from .equal_mass import equal_mass_ece
from .kernels import DOUBTS, UNIT, add_confidences, uses_numba
from .keys import chunks

NLL_UNIT = 2.0**28
CEILING = 2**63 - 1


@dataclass(eq=False)
class CalibrationState:
    """Counters of calibration; add voxels with `update` or `update_confidence`, other states with `+`.

    Args:
        classes: of the probabilities; 0 for confidences alone, which leave Brier score, likelihood and classwise
            ECE undefined.
        bins: equal-width bins on [0, 1].

    Raises:
        ConfigError: fewer than 1 bin, or 1 class or fewer than none.

    Example:
        >>> state = CalibrationState()
        >>> state.update_confidence(np.array([0.95] * 4 + [0.55] * 2), np.array([1, 1, 1, 0, 1, 0]))
        >>> round(state.ece, 9), state.brier
        (0.15, nan)
    """

    classes: int = 0
    bins: int = BINS
    count: int = field(default=0, init=False)
    table: np.ndarray = field(init=False, repr=False)
    doubts: np.ndarray = field(init=False, repr=False)
    per_class: np.ndarray = field(init=False, repr=False)
    sums: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.bins < 1 or self.classes < 0 or self.classes == 1:
            raise ConfigError(
                f"{self.bins} bins and {self.classes} classes, expected at least 1 bin and 0 or 2 classes."
            )
        self.table = np.zeros((self.bins, 3), np.int64)
        self.doubts = np.zeros((DOUBTS, 3), np.int64)
        self.per_class = np.zeros((self.classes, self.bins, 3), np.int64)
        self.sums = np.zeros(2, np.int64)

    def update(
        self,
        probability: np.ndarray,
        label: np.ndarray,
        prediction: np.ndarray | None = None,
        backend: str = "auto",
    ) -> None:
        """Add voxels with their class probabilities.

        Args:
            probability: (classes, *grid) in [0, 1].
            label: (*grid) class numbers; below 0 is left out.
            prediction: (*grid) the labels that were given; the first largest probability by default.
            backend: `numpy`, `numba` or `auto`; all give the same counters.

        Raises:
            InputError: other shapes, a probability outside [0, 1], an unknown class, or a sum could overflow.
                Nothing was added then.
        """
        table, truth = np.asarray(probability), np.ravel(np.asarray(label))
        table = table.reshape(len(table), -1)
        given = None if prediction is None else np.ravel(np.asarray(prediction))
        self._check(table, truth, given)
        compiled = uses_numba(backend, truth.size)
        for part in chunks(truth.size):
            known = truth[part] >= 0
            p, y = table[:, part][:, known], truth[part][known].astype(np.intp)
            chosen = p.argmax(0) if given is None else given[part][known].astype(np.intp)
            confidence = np.take_along_axis(p, chosen[None], 0)[0]
            self._add_confidence(_floats(confidence), chosen == y, compiled)
            self._add_classes(p, y)

    def update_confidence(self, confidence: np.ndarray, right: np.ndarray, backend: str = "auto") -> None:
        """Add voxels of which only the probability of the given label is known.

        Args:
            confidence: any shape, in [0, 1].
            right: the same shape, true or 1 where the label is right.
            backend: as for `update`.

        Raises:
            InputError: other shapes, a value outside [0, 1], a sum could overflow, or the state has classes.
        """
        p, hit = np.ravel(np.asarray(confidence)), np.ravel(np.asarray(right)) != 0
        if self.classes:
            raise InputError(f"A confidence alone, expected the probability of {self.classes} classes.")
        if p.shape != hit.shape:
            raise InputError(f"{p.size} confidences and {hit.size} hits, expected one hit per confidence.")
        check_unit(p[None])
        self.check_room(p.size)
        compiled = uses_numba(backend, p.size)
        for part in chunks(p.size):
            self._add_confidence(_floats(p[part]), np.ascontiguousarray(hit[part]), compiled)

    def check_room(self, voxels: int) -> None:
        """Raise `InputError` if so many more voxels of the worst values could overflow a sum."""
        sure = max(int(t[..., 1].max(initial=0)) for t in (self.table, self.doubts, self.per_class))
        worst = sure + voxels * int(UNIT)
        if self.classes:
            nats, squares = (int(v) for v in self.sums)
            worst = max(worst, nats + voxels * _WORST, squares + voxels * self.classes * int(UNIT))
        if worst > CEILING:
            raise InputError(
                f"{voxels} more voxels could overflow a state of {self.count}: add them in smaller parts, "
                "or keep several states and average what they give."
            )

    def __add__(self, other: CalibrationState) -> CalibrationState:
        if (self.classes, self.bins) != (other.classes, other.bins):
            raise ConfigError(
                f"States of {self.classes} and {other.classes} classes with {self.bins} and {other.bins} bins "
                "do not add up."
            )
        total = CalibrationState(self.classes, self.bins)
        total.count = self.count + other.count
        for name in ("table", "doubts", "per_class", "sums"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if (mine > CEILING - theirs).any():
                raise InputError(f"The sum of states of {self.count} and {other.count} voxels overflows.")
            setattr(total, name, mine + theirs)
        return total

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CalibrationState):
            return NotImplemented
        return (self.classes, self.bins, self.count) == (other.classes, other.bins, other.count) and all(
            np.array_equal(getattr(self, n), getattr(other, n))
            for n in ("table", "doubts", "per_class", "sums")
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def reliability(self) -> Reliability:
        """Voxels, summed confidence and hits per equal-width bin; `mean_confidence` and `mean_accuracy` divide."""
        return Reliability(self.table[:, 0].copy(), self.table[:, 1] / UNIT, self.table[:, 2].astype(float))

    @property
    def ece(self) -> float:
        """Expected calibration error: sum over bins of n_b / N |accuracy - confidence|, in [0, 1]."""
        return float(_ece(self.table, self.count))

    @property
    def ece_equal_mass(self) -> float:
        """ECE with as many bins of as many voxels each, see `equal_mass_ece`."""
        return equal_mass_ece(self.doubts, self.bins, UNIT)[0]

    @property
    def ece_equal_mass_bound(self) -> float:
        """By how much `ece_equal_mass` can differ from that of the sorted voxels."""
        return equal_mass_ece(self.doubts, self.bins, UNIT)[1]

    @property
    def ece_classwise(self) -> float:
        """Mean over classes of the ECE of p_c against 1[y = c], in [0, 1]; NaN without classes or voxels."""
        return float(_ece(self.per_class, self.count).mean()) if self.classes else float("nan")

    @property
    def brier(self) -> float:
        """Mean over voxels of sum_c (p_c - 1[y = c])^2, in [0, 2]; NaN without classes or voxels."""
        return float(self.sums[1] / UNIT / self.count) if self.classes and self.count else float("nan")

    @property
    def nll(self) -> float:
        """Mean over voxels of -ln max(p_y, 1e-12), nats; NaN without classes or voxels."""
        return float(self.sums[0] / NLL_UNIT / self.count) if self.classes and self.count else float("nan")

    def _check(self, table: np.ndarray, truth: np.ndarray, given: np.ndarray | None) -> None:
        if table.shape != (self.classes, truth.size):
            raise InputError(
                f"Probabilities (classes, voxels) are {table.shape}, expected {(self.classes, truth.size)}."
            )
        if given is not None and given.shape != truth.shape:
            raise InputError(f"{given.size} predictions and {truth.size} labels, expected as many.")
        largest = max(int(truth.max(initial=0)), 0 if given is None else int(given.max(initial=0)))
        if largest >= self.classes or (given is not None and (given[truth >= 0] < 0).any()):
            raise InputError(f"Class {largest} or a negative prediction, expected 0 to {self.classes - 1}.")
        check_unit(table)
        self.check_room(truth.size)

    def _add_confidence(self, confidence: np.ndarray, right: np.ndarray, compiled: bool) -> None:
        add_confidences(self.table, self.doubts, confidence, right, compiled)
        self.count += confidence.size

    def _add_classes(self, p: np.ndarray, y: np.ndarray) -> None:
        brier = np.zeros(y.size)
        for c, row in enumerate(p):
            wide, is_class = row.astype(np.float64), y == c
            brier += (wide - is_class) ** 2
            index = np.minimum((wide * self.bins).astype(np.intp), self.bins - 1)
            fixed = np.floor(wide * UNIT + 0.5)
            counters = self.per_class[c]
            counters[:, 0] += np.bincount(index, minlength=self.bins)
            counters[:, 1] += np.bincount(index, weights=fixed, minlength=self.bins).astype(np.int64)
            counters[:, 2] += np.bincount(index[is_class], minlength=self.bins)
        of_label = np.take_along_axis(p, y[None], 0)[0].astype(np.float64)
        nats = -np.log(np.maximum(of_label, LEAST_PROBABILITY))
        self.sums[0] += np.rint(nats * NLL_UNIT).astype(np.int64).sum()
        self.sums[1] += np.rint(brier * UNIT).astype(np.int64).sum()


_WORST = int(-np.log(LEAST_PROBABILITY) * NLL_UNIT) + 1


def check_unit(rows: np.ndarray) -> None:
    """Raise `InputError` unless every value of (rows, voxels) lies in [0, 1]."""
    for part in chunks(rows.shape[1]):
        values = rows[:, part]
        if not (values.min(initial=0) >= 0 and values.max(initial=0) <= 1):
            raise InputError("A probability is NaN or outside [0, 1], expected probabilities.")


def _floats(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32 if values.dtype == np.float32 else np.float64)


def _ece(counters: np.ndarray, count: int) -> np.ndarray:
    gaps = np.abs(counters[..., 2] - counters[..., 1] / UNIT).sum(-1)
    return gaps / count if count else gaps * np.nan
