"""Settings of feature density."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import ConfigError, UnknownNameError

COVARIANCES = ("tied", "per_class")
SCORES = ("predicted", "nearest")


@dataclass(frozen=True)
class FeatureDensityConfig:
    """Which features, which Gaussians, which distance.

    Args:
        taps: names of the segmenter's taps whose squared distances are summed; `finest` takes the one with most voxels,
            `all` takes all.
        covariance: `tied` shares one covariance between the classes, `per_class` gives each its own.
        score: distance to the class that the segmenter predicts (`predicted`), or to the nearest class (`nearest`).
        shrinkage: share of the covariance that is replaced by its mean variance on the diagonal, in (0, 1].
    """

    taps: tuple[str, ...] | Literal["finest", "all"] = "all"
    covariance: Literal["tied", "per_class"] = "tied"
    score: Literal["predicted", "nearest"] = "predicted"
    shrinkage: float = 0.001

    def __post_init__(self) -> None:
        if not isinstance(self.taps, str):
            object.__setattr__(self, "taps", tuple(self.taps))  # JSON gives lists
        elif self.taps not in ("finest", "all"):
            raise UnknownNameError("taps", self.taps, ("finest", "all", "a list of names"))
        for name, known in (("covariance", COVARIANCES), ("score", SCORES)):
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        if not 0 < self.shrinkage <= 1:
            raise ConfigError(f"shrinkage={self.shrinkage}, expected a number above 0 and at most 1.")
