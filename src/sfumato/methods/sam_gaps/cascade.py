"""When to ask the larger network: predicted gain above a threshold, and what quality that buys at what cost.

A cascade always runs the cheap network and sends the share q of the prompts on, so it costs c_cheap + q c_large per
prompt (section 9.1 of the description of UncertainSAM); costs are measured by whoever asks, in any unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from ...errors import ConfigError, InputError
from ...metrics.relative_auc import correction_curve


@dataclass(frozen=True)
class Costs:
    """What one prompt costs on each network, in one unit, such as seconds.

    Args:
        cheap: of the network that always runs.
        large: of the network that it may be sent on to.

    Example:
        >>> costs = Costs(0.139, 0.437)
        >>> round(costs.of(0.25), 5), round(costs.break_even, 4)
        (0.24825, 0.6819)
    """

    cheap: float
    large: float

    def __post_init__(self) -> None:
        if not 0 <= self.cheap < float("inf") or not 0 < self.large < float("inf"):
            raise ConfigError(
                f"Costs {self.cheap} and {self.large}, expected finite ones, above 0 for the large."
            )

    def of(self, share: float) -> float:
        """Mean cost per prompt when this share is sent on."""
        return self.cheap + share * self.large

    @property
    def break_even(self) -> float:
        """The share above which always asking the large network alone is cheaper; 0 if it always is."""
        return max(0.0, (self.large - self.cheap) / self.large)


@dataclass(frozen=True)
class CascadeCurve:
    """What can be had, from sending nothing on to sending everything on.

    Args:
        share: (n + 1,) of the prompts that is sent on.
        iou: (n + 1,) mean IoU of the cascade.
        cost: (n + 1,) mean cost per prompt.
    """

    share: np.ndarray
    iou: np.ndarray
    cost: np.ndarray


def escalate(gap: Float[Tensor, "prompts"], threshold: float) -> Bool[Tensor, "prompts"]:
    """Whether each prompt is sent on: its predicted model gap is above the threshold.

    At plus infinity everything stays with the cheap network, at minus infinity everything is sent on.
    """
    return gap > threshold


def cascade_curve(scores: np.ndarray, cheap: np.ndarray, large: np.ndarray, costs: Costs) -> CascadeCurve:
    """Quality and cost over the share that is sent on, highest scores first; equal scores are averaged.

    The true gain `large - cheap` as score gives the best curve there is, a constant score the random one.

    Args:
        scores: (prompts,) such as predicted model gaps.
        cheap: (prompts,) true IoU of the cheap network; rows that are not finite are left out.
        large: (prompts,) of the large one.
        costs: per prompt.

    Example:
        >>> curve = cascade_curve(np.array([0.3, 0]), np.array([0.5, 0.9]), np.array([0.8, 0.9]), Costs(1, 4))
        >>> curve.iou.round(2).tolist(), curve.cost.tolist()
        ([0.7, 0.85, 0.85], [1.0, 3.0, 5.0])
    """
    found = correction_curve(scores, cheap, large)
    return CascadeCurve(found.share, found.quality, costs.cheap + found.share * costs.large)


def threshold_for_share(scores: np.ndarray, share: float) -> float:
    """The smallest threshold that at most this share of held-out scores exceeds: a budget for any rule of this kind.

    Args:
        scores: (n,) finite.
        share: in [0, 1]; 1 gives minus infinity.

    Raises:
        InputError: no scores, or some that are not finite.
        ConfigError: another share.

    Example:
        >>> threshold_for_share(np.array([0.4, 0.1, 0.3, 0.2]), 0.5)
        0.2
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"share={share}, expected a number from 0 to 1.")
    if not len(scores) or not np.isfinite(scores).all():
        raise InputError("Scores that are not finite or none at all, expected at least one, all finite.")
    ordered = np.sort(np.asarray(scores, dtype=float))
    exceeding = int(np.floor(share * len(ordered) + 1e-9))  # 0.3 of 10 is 3, whatever binary fractions say
    return float("-inf") if exceeding == len(ordered) else float(ordered[len(ordered) - 1 - exceeding])


def threshold_for_quality(scores: np.ndarray, cheap: np.ndarray, large: np.ndarray, wanted: float) -> float:
    """The highest threshold at which the cascade's mean IoU on held-out prompts reaches what is wanted.

    Returns:
        Plus infinity where the cheap network alone reaches it; minus infinity, everything is sent on, where nothing
        less does, even if that does not either.

    Example:
        >>> threshold_for_quality(np.array([0.3, 0.1]), np.array([0.5, 0.9]), np.array([0.8, 0.9]), 0.85)
        0.1
    """
    known = np.isfinite(scores) & np.isfinite(cheap) & np.isfinite(large)
    scores, cheap, large = (np.asarray(v, dtype=float)[known] for v in (scores, cheap, large))
    quality = correction_curve(scores, cheap, large).quality
    if quality[0] >= wanted - 1e-12:
        return float("inf")
    ordered = np.append(-np.sort(-scores), -np.inf)
    for sent in np.flatnonzero(ordered[1:] < ordered[:-1]) + 1:  # equal scores go together
        if quality[sent] >= wanted - 1e-12:
            return float(ordered[sent])
    return float("-inf")
