"""How far a drawn label and a model's probability differ, and how far the model itself expected them to.

Needs a model that has not seen the case (out-of-fold), else it has learnt the label's mistakes. Everything is
oriented as uncertainty is: higher = more doubtful.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ...errors import ConfigError, InputError


@dataclass(frozen=True)
class Agreement:
    """One case; numbers are in [0, 1] unless said otherwise.

    Args:
        dice: (classes - 1,) soft Dice of each foreground class, 2 sum p_c y_c / (sum p_c + sum y_c); NaN where a
            class is neither labelled nor predicted anywhere.
        disagreement: 1 - mean of `dice`; 0 without any foreground in label and prediction.
        worst: 1 - the lowest `dice`, likewise.
        expected: what `disagreement` would be, as a ratio of expectations, had the label been drawn from the
            model's probability: mean of 1 - sum p_c^2 / sum p_c over the same classes; of a class predicted nowhere
            times 1 - exp(-sum p_c), the (Poisson) chance that any voxel of it is drawn.
        surprise: `disagreement` - `expected`, in [-1, 1]: 0 for a calibrated model and a label of its reader.
        softmin: 1 - cleanlab's label quality of an image.
        confident: share of the labelled or predicted foreground where the model is confident of another class
            than the label's; 0 without foreground.
        size_log_ratio: ln((labelled foreground + 1) / (expected foreground + 1)), voxels; any sign, > 0 where more
            was drawn than the model expects. Doubtful on both sides.
    """

    dice: Float[np.ndarray, "foreground"]
    disagreement: float
    worst: float
    expected: float
    surprise: float
    softmin: float
    confident: float
    size_log_ratio: float


def label_agreement(
    probability: Float[np.ndarray, "classes *grid"],
    label: Int[np.ndarray, "*grid"],
    thresholds: Float[np.ndarray, "classes"] | None = None,
    temperature: float = 0.1,
) -> Agreement:
    """Compare a label with a probability.

    Args:
        probability: of all classes, background first, each voxel's adding up to 1.
        label: class per voxel; below 0 is unknown and left out.
        thresholds: for `confident`, as of `confidence_thresholds`; of this case by default, which a label that is
            too large lowers. The mean over the cases of a data set is better.
        temperature: of the softmin, > 0; low ones look at the worst voxel, high ones at the mean.

    Raises:
        InputError: shapes, labels or probabilities that do not fit, or no known voxel.
        ConfigError: a temperature of 0 or below.

    Example:
        >>> p = np.array([[0.9, 0.2, 0.2, 0.9], [0.1, 0.8, 0.8, 0.1]])
        >>> right, wrong = label_agreement(p, np.array([0, 1, 1, 0])), label_agreement(p, np.array([1, 0, 0, 1]))
        >>> round(right.disagreement, 3), round(wrong.disagreement, 3), round(right.expected, 3)
        (0.158, 0.895, 0.278)
        >>> right.confident, wrong.confident
        (0.0, 1.0)
    """
    if temperature <= 0:
        raise ConfigError(f"temperature={temperature}, expected above 0.")
    p, y = _known(probability, label)
    predicted, classes = p.argmax(axis=0), len(p)
    given = np.take_along_axis(p, y[None], axis=0)[0].astype(np.float64)
    expected_sizes, sizes = p.sum(axis=1, dtype=np.float64), np.bincount(y, minlength=classes)
    seen = np.bincount(predicted, minlength=classes) > 0
    present = seen | (sizes > 0)
    shared = np.bincount(y, weights=given, minlength=classes)
    squares = np.einsum("cv,cv->c", p, p, dtype=np.float64)
    loss = _where(present, 1 - 2 * shared / np.maximum(expected_sizes + sizes, 1e-300))[1:]
    chance = np.where(seen, 1.0, -np.expm1(-expected_sizes))
    expected = _where(present, chance * (1 - squares / np.maximum(expected_sizes, 1e-300)))[1:]
    any_foreground = bool(present[1:].any())
    disagreement = float(np.nanmean(loss)) if any_foreground else 0.0
    expectation = float(np.nanmean(expected)) if any_foreground else 0.0
    limits = confidence_thresholds(p, y) if thresholds is None else np.asarray(thresholds, float)
    return Agreement(
        dice=1 - loss,
        disagreement=disagreement,
        worst=float(np.nanmax(loss)) if any_foreground else 0.0,
        expected=expectation,
        surprise=disagreement - expectation,
        softmin=1 - _softmin(given, temperature),
        confident=_confident_share(p, y, predicted, limits),
        size_log_ratio=float(np.log((sizes[1:].sum() + 1) / (expected_sizes[1:].sum() + 1))),
    )


def confidence_thresholds(
    probability: Float[np.ndarray, "classes *grid"], label: Int[np.ndarray, "*grid"]
) -> Float[np.ndarray, "classes"]:
    """From where on the model counts as confident of a class: its mean probability where the label has that class.

    As in confident learning (Northcutt, Jiang and Chuang, 2021, arXiv 1911.00068, eq. 2). A class without a
    labelled voxel takes the mean over the voxels predicted as it, so that a label that misses a class does not
    silence the model; infinity without those too.

    Example:
        >>> p = np.array([[0.9, 0.3, 0.2], [0.1, 0.7, 0.8]])
        >>> confidence_thresholds(p, np.array([0, 1, 1])).tolist()
        [0.9, 0.75]
    """
    p, y = _known(probability, label)
    predicted = p.argmax(axis=0)
    limits = np.full(len(p), np.inf)
    for number, row in enumerate(p):
        chosen = y == number if (y == number).any() else predicted == number
        if chosen.any():
            limits[number] = row[chosen].mean(dtype=np.float64)
    return limits


def _confident_share(p: np.ndarray, y: np.ndarray, predicted: np.ndarray, limits: np.ndarray) -> float:
    if limits.shape != (len(p),):
        raise InputError(f"thresholds of shape {limits.shape}, expected one for each of {len(p)} classes.")
    # Among the classes it is confident of, the most probable one counts.
    certain = np.where(p >= limits[:, None], p, -np.inf)
    best = certain.argmax(axis=0)
    wrong = (certain.max(axis=0) > -np.inf) & (best != y)
    foreground = (y > 0) | (predicted > 0)
    return float(wrong[foreground].mean()) if foreground.any() else 0.0


def _softmin(quality: np.ndarray, temperature: float) -> float:
    """Mean weighted by softmax((1 - quality) / temperature): near the worst voxels' (cleanlab, label quality)."""
    weights = np.exp((quality.min() - quality) / temperature)
    return float(weights @ quality / weights.sum())


def _where(present: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(present, values, np.nan)


def _known(probability: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(classes, voxels) and (voxels,) where the label is known."""
    if probability.shape[1:] != label.shape or label.dtype.kind not in "iu":
        raise InputError(
            f"probability {probability.shape} and {label.dtype} label {label.shape}, expected (classes, *grid) "
            "and integers (*grid)."
        )
    p, y = probability.reshape(len(probability), -1), label.ravel()
    known = y >= 0
    if not known.any():
        raise InputError(
            "the label has no known voxel, expected at least one of 0 or above; leave the case out."
        )
    if not known.all():
        p, y = p[:, known], y[known]
    if len(p) < 2 or y.max() >= len(p):
        raise InputError(
            f"labels up to {y.max()} and {len(p)} classes, expected at least 2 and labels below."
        )
    # Written so that NaN fails too.
    if not (p.min() >= 0 and np.abs(p.sum(axis=0) - 1).max() < 1e-2):
        raise InputError(
            "probabilities below 0, not finite or not adding up to 1; expected those of all classes, not logits."
        )
    return p, y.astype(np.int64)
