"""From what the heads say to what may be relied on: expected IoU, an interval that keeps its promise, and a chance.

Whole groups (pictures, patients) are dealt into two halves. The first one gives the expected IoU and the curves of an
interval; the second one, which neither has seen, says by how much the interval must be widened, and how often IoU
exceeds a threshold. The widening is conformalised quantile regression (Romano, Patterson and Candes, 2019) with the
quantile for grouped data of Lee, Barber and Willett (2023), as masks of one picture succeed or fail together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError, InputError
from ...heads.error_table import pool_adjacent_violators

KNOTS = 64
"""Corners of a curve at most."""
LEAST_FOR_MEAN, LEAST_FOR_QUANTILE = 10, 40
"""Masks behind one corner of a curve of means or of quantiles at least, so that a lucky mask makes no corner."""


class IouCalibration(nn.Module):
    """Monotone curves over what the heads say, and the widening of the interval; all are buffers.

    Before it is fitted it knows nothing: the expected IoU is what the heads say, the interval is [0, 1].

    Args:
        level: chance with which the interval holds the true IoU.
        threshold: `above` is the chance that IoU exceeds it.

    Example:
        >>> calibration = IouCalibration()
        >>> calibration.expected(torch.tensor([0.25, 1.5])).tolist()
        [0.25, 1.0]
    """

    mean: Tensor
    lower: Tensor
    upper: Tensor
    chance: Tensor
    widening: Tensor
    level: Tensor
    threshold: Tensor

    def __init__(self, level: float = 0.9, threshold: float = 0.75):
        super().__init__()
        for name, value in (("level", level), ("threshold", threshold)):
            if not 0 < value < 1:
                raise ConfigError(f"{name}={value}, expected a number between 0 and 1.")
        line = torch.linspace(0, 1, KNOTS)
        for name in ("mean", "lower", "upper"):
            self.register_buffer(name, torch.stack([line, line]))
        self.register_buffer("chance", torch.stack([line, (line > threshold).float()]))
        self.register_buffer("widening", torch.tensor(1.0))
        self.register_buffer("level", torch.tensor(level))
        self.register_buffer("threshold", torch.tensor(threshold))

    def expected(self, told: Float[Tensor, "*masks"]) -> Float[Tensor, "*masks"]:
        """Expected IoU in [0, 1], non-decreasing in what the heads say."""
        return read_curve(self.mean, told).clamp(0, 1)

    def interval(
        self, told: Float[Tensor, "*masks"]
    ) -> tuple[Float[Tensor, "*masks"], Float[Tensor, "*masks"]]:
        """Lower and upper end in [0, 1], around the expected IoU.

        The true IoU lies inside with the chance `level` at least, both for any mask and for the hypothesis of a
        prompt that is told to be best, of a picture that is like the calibration pictures.
        """
        expected = self.expected(told)
        low = read_curve(self.lower, told) - self.widening
        high = read_curve(self.upper, told) + self.widening
        return torch.minimum(low, expected).clamp(min=0), torch.maximum(high, expected).clamp(max=1)

    def above(self, told: Float[Tensor, "*masks"]) -> Float[Tensor, "*masks"]:
        """Chance that IoU exceeds `threshold`, non-decreasing in what the heads say."""
        return read_curve(self.chance, told).clamp(0, 1)


def fit_iou_calibration(
    predicted: Float[Tensor, "rows *hypotheses"],
    true: Float[Tensor, "rows *hypotheses"],
    groups: Sequence[str],
    level: float = 0.9,
    threshold: float = 0.75,
    seed: int = 0,
) -> IouCalibration:
    """Calibrate on masks that the heads were not fitted on.

    Args:
        predicted: what the heads say; one column per hypothesis, or none for one mask per row.
        true: IoU in [0, 1].
        groups: picture, patient or video of every row; at least two. Intervals narrower than [0, 1] need
            level / (1 - level) groups in the half that widens them, 18 groups in all at a level of 0.9.
        level: of the interval.
        threshold: of `IouCalibration.above`.
        seed: of dealing the groups into halves.

    Raises:
        InputError: other shapes, numbers that are not finite, IoUs outside of [0, 1], or fewer than two groups.
        ConfigError: a level or threshold outside of (0, 1).

    Example:
        >>> told = torch.rand(400, generator=torch.Generator().manual_seed(0))
        >>> calibration = fit_iou_calibration(told, told.square(), [str(i) for i in range(400)])
        >>> round(float(calibration.expected(torch.tensor(0.5))), 2)
        0.25
    """
    _check(predicted, true, groups)
    found = IouCalibration(level, threshold)
    told, iou = (v.detach().cpu().double().reshape(len(groups), -1) for v in (predicted, true))
    first = torch.from_numpy(_first_half(groups, seed))
    x, y = told[first].flatten().numpy(), iou[first].flatten().numpy()
    tail = (1 - level) / 2
    found.mean.copy_(fit_curve(x, y, np.mean, LEAST_FOR_MEAN))
    found.lower.copy_(fit_curve(x, y, lambda part: np.quantile(part, tail), LEAST_FOR_QUANTILE))
    found.upper.copy_(fit_curve(x, y, lambda part: np.quantile(part, 1 - tail), LEAST_FOR_QUANTILE))
    told, iou = told[~first], iou[~first]
    rest = [group for group, early in zip(groups, first.tolist(), strict=True) if not early]
    exceeds = (iou > threshold).flatten().double().numpy()
    found.chance.copy_(fit_curve(told.flatten().numpy(), exceeds, np.mean, LEAST_FOR_MEAN))
    misses = _misses(found, told, iou)
    chosen = misses.gather(1, told.argmax(dim=1, keepdim=True))
    widening = max(grouped_quantile(m.numpy(), rest, level) for m in (misses, chosen))
    found.widening.fill_(min(widening, 1.0))  # nothing is further than 1 from an IoU
    return found


def grouped_quantile(scores: np.ndarray, groups: Sequence[str], level: float) -> float:
    """The smallest t that a score of a new group stays at or below with the chance `level` at least.

    With K groups, each of the n scores of a group weighs 1 / (n (K + 1)); the rest is kept for infinity. With one
    score per group this is the ceil((K + 1) level)-th smallest, as in split conformal prediction.

    Args:
        scores: (rows, *any).
        groups: of the rows.
        level: in (0, 1).

    Returns:
        Infinity where there are too few groups.

    Example:
        >>> grouped_quantile(np.arange(1.0, 10.0), list("abcdefghi"), 0.9)
        9.0
        >>> grouped_quantile(np.arange(1.0, 9.0), list("abcdefgh"), 0.9)
        inf
    """
    table = scores.reshape(len(groups), -1)
    _, owner, count = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    weight = np.repeat(1 / (count[owner] * table.shape[1] * (len(count) + 1)), table.shape[1])
    order = np.argsort(table.ravel(), kind="stable")
    reached = np.cumsum(weight[order]) >= level - 1e-12  # sums of equal parts must not miss by rounding
    return float(table.ravel()[order][np.argmax(reached)]) if reached.any() else float("inf")


def fit_curve(
    told: np.ndarray, true: np.ndarray, statistic: Callable[[np.ndarray], float], least: int
) -> Float[Tensor, "2 knots"]:
    """A non-decreasing curve of a statistic: bins of equal mass, then isotonic regression.

    Corners lie at the mean of a block's scores, so that scores inside of a block keep their order.

    Args:
        told: (n,) at least one.
        true: (n,).
        statistic: of the true values of one bin.
        least: values per bin, unless there are fewer in all.

    Returns:
        Scores and levels of the corners; the last corner is repeated to fill up.
    """
    order = np.argsort(told, kind="stable")
    told, true = told[order], true[order]
    bins = max(1, min(KNOTS, len(told) // least))
    inner = told[np.linspace(0, len(told), bins + 1)[1:-1].astype(int)]
    edges = np.unique([0, *np.searchsorted(told, inner), len(told)])  # equal scores are never parted
    size = np.diff(edges)
    value = np.array([statistic(part) for part in np.split(true, edges[1:-1])])
    centre = np.add.reduceat(told, edges[:-1]) / size
    levels, blocks = pool_adjacent_violators(value, size)
    starts = np.cumsum(blocks) - blocks
    knots = np.add.reduceat(centre * size, starts) / np.add.reduceat(size, starts)
    corners = np.stack([knots, levels])
    return torch.from_numpy(np.pad(corners, ((0, 0), (0, KNOTS - len(levels))), mode="edge")).float()


def read_curve(curve: Float[Tensor, "2 knots"], at: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """A curve of `fit_curve` at some scores: linear between corners, constant beyond them."""
    knots, levels = curve
    inside = at.to(knots).contiguous().clamp(knots[0], knots[-1])
    right = torch.searchsorted(knots.contiguous(), inside).clamp(1, len(knots) - 1)
    width = (knots[right] - knots[right - 1]).clamp_min(torch.finfo(knots.dtype).tiny)
    share = ((inside - knots[right - 1]) / width).clamp(0, 1)
    return torch.lerp(levels[right - 1], levels[right], share)


def _first_half(groups: Sequence[str], seed: int) -> np.ndarray:
    """(rows,): whether a row's group is in the first half, the smaller one if they are not equal."""
    names = sorted(set(groups))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    early = {names[i] for i in order[: len(names) // 2]}
    return np.array([group in early for group in groups])


def _misses(found: IouCalibration, told: Tensor, iou: Tensor) -> Float[Tensor, "rows hypotheses"]:
    """By how much IoU lies outside of the interval before it is widened; negative inside."""
    low, high = read_curve(found.lower, told), read_curve(found.upper, told)
    return torch.maximum(low - iou, iou - high)


def _check(predicted: Tensor, true: Tensor, groups: Sequence[str]) -> None:
    if predicted.shape != true.shape or len(predicted) != len(groups):
        raise InputError(
            f"Predicted IoU {tuple(predicted.shape)}, true IoU {tuple(true.shape)} and {len(groups)} groups, "
            "expected equal shapes and one group per row."
        )
    if len(set(groups)) < 2:
        raise InputError(
            f"{len(set(groups))} group for calibrating IoU, expected at least two pictures or patients; give more "
            "calibration cases."
        )
    if not (predicted.isfinite().all() and ((true >= 0) & (true <= 1)).all()):
        raise InputError(
            "Predicted IoU that is not finite or true IoU outside of [0, 1], expected none; leave such rows out."
        )
