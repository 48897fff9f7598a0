"""What is left of a segmentation when its uncertain voxels are taken out: the curves and score of QU-BraTS.

At a threshold tau in per cent, voxels with uncertainty > tau / 100 are taken out. Per foreground class, with TP, FP, FN
and TN the voxels kept at tau (Mehta et al., 2022, "QU-BraTS", MELBA):

- filtered Dice(tau) = 2 TP / (2 TP + FP + FN)
- FTP(tau) = (TP_100 - TP_tau) / TP_100, the share of right foreground that was taken out; FTN likewise for background
- score = (AUC of Dice + (1 - AUC of FTP) + (1 - AUC of FTN)) / 3, each the trapezoid over tau / 100 from 0 to 1
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import ConfigError, InputError
from .keys import chunks

THRESHOLDS = 101
"""0, 1, ..., 100 per cent."""


@dataclass(eq=False)
class FilteredState:
    """Voxels by given label, true label and the lowest threshold that keeps them; add states with `+`.

    Args:
        classes: background included, at least 2.

    Raises:
        ConfigError: fewer than 2 classes.

    Example:
        >>> state = FilteredState(2)
        >>> state.update(np.array([0.0, 0.0, 0.5, 0.0]), np.array([1, 0, 1, 0]), np.array([1, 0, 0, 0]))
        >>> state.dice[0, [0, 49, 50, 100]].round(3).tolist()
        [1.0, 1.0, 0.667, 0.667]
    """

    classes: int
    counts: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ConfigError(f"{self.classes} classes, expected background and at least one more.")
        self.counts = np.zeros((self.classes, self.classes, THRESHOLDS), np.int64)

    def update(self, uncertainty: np.ndarray, prediction: np.ndarray, label: np.ndarray) -> None:
        """Add voxels.

        Args:
            uncertainty: any shape, in [0, 1]; thresholds are rounded to its own type, so a float32 0.07 is 7 %.
            prediction: class numbers, the same shape.
            label: class numbers, the same shape; below 0 is left out.

        Raises:
            InputError: other shapes, an uncertainty outside [0, 1] or an unknown class. Nothing was added then.
        """
        u, given, truth = (np.ravel(np.asarray(v)) for v in (uncertainty, prediction, label))
        if not u.shape == given.shape == truth.shape:
            raise InputError(
                f"{u.size} uncertainties, {given.size} predictions, {truth.size} labels, expected as many."
            )
        if not (u.min(initial=0) >= 0 and u.max(initial=0) <= 1):
            raise InputError("An uncertainty is NaN or outside [0, 1], expected values in [0, 1].")
        if given.min(initial=0) < 0 or max(given.max(initial=0), truth.max(initial=0)) >= self.classes:
            raise InputError(f"A class is unknown, expected 0 to {self.classes - 1}.")
        thresholds = (np.arange(THRESHOLDS) / (THRESHOLDS - 1)).astype(
            u.dtype if u.dtype.kind == "f" else float
        )
        flat = self.counts.reshape(-1)
        for part in chunks(u.size):
            known = truth[part] >= 0
            pair = given[part][known].astype(np.intp) * self.classes + truth[part][known].astype(np.intp)
            kept_from = np.searchsorted(thresholds, u[part][known])
            flat += np.bincount(pair * THRESHOLDS + kept_from, minlength=flat.size)

    def __add__(self, other: FilteredState) -> FilteredState:
        if self.classes != other.classes:
            raise ConfigError(f"States of {self.classes} and {other.classes} classes do not add up.")
        total = FilteredState(self.classes)
        total.counts = self.counts + other.counts
        return total

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilteredState) and np.array_equal(self.counts, other.counts)

    __hash__ = None  # type: ignore[assignment]

    @property
    def dice(self) -> np.ndarray:
        """(classes - 1, 101) filtered Dice; NaN for a class in neither whole map.

        Where thresholds keep nothing of a class that is there, nothing kept is wrong and it is 1, as in the
        challenge; the ratio of filtered true positives pays for that.
        """
        hits, _, sizes = self._kept()
        absent = sizes[:, -1:] == 0
        dice = np.divide(2 * hits, sizes, out=np.ones(sizes.shape), where=sizes > 0)
        return np.where(absent, np.nan, dice)

    @property
    def filtered_true_positives(self) -> np.ndarray:
        """(classes - 1, 101) FTP in [0, 1]; NaN for a class without a true positive."""
        return _lost(self._kept()[0])

    @property
    def filtered_true_negatives(self) -> np.ndarray:
        """(classes - 1, 101) FTN in [0, 1]; NaN for a class without a true negative."""
        return _lost(self._kept()[1])

    @property
    def score(self) -> np.ndarray:
        """(classes - 1,) summary in [0, 1], higher is better; NaN where a curve is undefined."""
        return (
            _area(self.dice)
            + 1
            - _area(self.filtered_true_positives)
            + 1
            - _area(self.filtered_true_negatives)
        ) / 3

    def _kept(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # TP, TN and 2 TP + FP + FN, (classes - 1, thresholds), of what each threshold keeps.
        kept = self.counts.cumsum(-1)
        given, truth, total = kept.sum(1)[1:], kept.sum(0)[1:], kept.sum((0, 1))
        hits = np.stack([kept[c, c] for c in range(1, self.classes)])
        return hits, total - given - truth + hits, given + truth


def _lost(kept: np.ndarray) -> np.ndarray:
    whole = kept[:, -1:]
    return np.divide(whole - kept, whole, out=np.full(kept.shape, np.nan), where=whole > 0)


def _area(curves: np.ndarray) -> np.ndarray:
    return (curves[:, 1:] + curves[:, :-1]).sum(1) / (2 * (THRESHOLDS - 1))
