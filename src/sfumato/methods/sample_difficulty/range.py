"""From scales to AUV: a stored reference range, so that a case's value never depends on the cases beside it.

Li et al., arXiv 2604.10963: AUV = 1 - (ln S - low) / (high - low), low and high the smallest and largest ln S of the
training set. 0 is the easiest case of that set, 1 the hardest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

from ...errors import ConfigError, StorageError

RangeMethod = Literal["minmax", "percentile"]
FLOOR = 1e-6
"""A scale below this belongs to a case with one direction alone: it is flagged, not ordered."""
LEAST_SPREAD = 1e-12
"""A narrower range of ln S does not order anything."""


@dataclass(frozen=True)
class ReferenceRange:
    """The range of ln S that AUV is measured in.

    Args:
        low: lower end, the hardest; inf without cases.
        high: upper end, the easiest; -inf without cases.
        count: cases it was taken from.
        flagged: cases that did not enter, as their scale is undefined or below `floor`.
        method: `minmax`, or `percentile` with the ends at two percentiles, which one case cannot move.
        percentiles: those two.
        floor: smallest scale that is not flagged.

    Example:
        >>> reference = ReferenceRange.from_values([0.427, 0.558, 0.134])
        >>> reference([0.427, 0.558, 0.134, 0.0]).round(6).tolist()
        [0.187572, 0.0, 1.0, 1.0]
    """

    low: float = math.inf
    high: float = -math.inf
    count: int = 0
    flagged: int = 0
    method: RangeMethod = "minmax"
    percentiles: tuple[float, float] = (1.0, 99.0)
    floor: float = FLOOR

    def __post_init__(self) -> None:
        if self.method not in ("minmax", "percentile"):
            raise ConfigError(f"method={self.method!r}, expected minmax or percentile.")
        first, last = self.percentiles
        if not 0 <= first < last <= 100:
            raise ConfigError(f"percentiles={self.percentiles}, expected two rising numbers from 0 to 100.")

    @classmethod
    def from_values(
        cls,
        scales: ArrayLike,
        method: RangeMethod = "minmax",
        percentiles: tuple[float, float] = (1.0, 99.0),
        floor: float = FLOOR,
    ) -> ReferenceRange:
        """The range of a set of scales S; flagged ones are counted and do not enter.

        Raises:
            ConfigError: another method, or percentiles that do not rise.
        """
        empty = cls(method=method, percentiles=percentiles, floor=floor)
        values = np.asarray(scales, dtype=np.float64).ravel()
        flagged = empty.flags(values)
        logs = np.log(values[~flagged])
        if not len(logs):
            return cls(math.inf, -math.inf, 0, int(flagged.sum()), method, percentiles, floor)
        ends = np.percentile(logs, percentiles) if method == "percentile" else (logs.min(), logs.max())
        low, high = (float(end) for end in ends)
        return cls(low, high, len(logs), int(flagged.sum()), method, percentiles, floor)

    @property
    def spread(self) -> bool:
        """Whether the cases differ at all; where they do not, AUV is 0 for every case that is not flagged."""
        return self.high - self.low >= LEAST_SPREAD

    def flags(self, scales: ArrayLike) -> Bool[np.ndarray, "*cases"]:
        """Which scales cannot be ordered: undefined, or below the floor."""
        values = np.asarray(scales, dtype=np.float64)
        return ~(np.isfinite(values) & (values >= self.floor) & (values > 0))

    def __call__(self, scales: ArrayLike) -> Float[np.ndarray, "*cases"]:
        """AUV of scales S, in [0, 1], 1 = hardest; 1 for flagged ones; beyond the range it stays at its end."""
        values = np.asarray(scales, dtype=np.float64)
        flagged = self.flags(values)
        if not self.spread:
            return flagged.astype(np.float64)
        logs = np.log(np.where(flagged, 1.0, values))
        found = np.clip(1 - (logs - self.low) / (self.high - self.low), 0.0, 1.0)
        return np.where(flagged, 1.0, found)

    def merge(self, other: ReferenceRange) -> ReferenceRange:
        """The range of two sets together; order and grouping do not matter, and a range without cases changes nothing.

        Raises:
            ConfigError: percentiles, which do not follow from those of the parts, or another floor.
        """
        if "percentile" in (self.method, other.method) or self.floor != other.floor:
            raise ConfigError(
                f"Ranges of method {self.method} and {other.method} with floors {self.floor:g} and {other.floor:g} "
                "were to be merged, expected two of minmax with one floor; take the range of all values instead."
            )
        return ReferenceRange(
            min(self.low, other.low),
            max(self.high, other.high),
            self.count + other.count,
            self.flagged + other.flagged,
            floor=self.floor,
        )

    def to_json(self) -> dict[str, Any]:
        """Plain types; the ends of a range without cases are None."""
        plain = asdict(self) | {"percentiles": list(self.percentiles)}
        return plain | ({} if self.count else {"low": None, "high": None})

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ReferenceRange:
        """The inverse of `to_json`.

        Raises:
            StorageError: other fields than those.
        """
        try:
            fields = {k: v for k, v in content.items() if v is not None}
            first, last = fields.pop("percentiles")
            return cls(**fields, percentiles=(first, last))
        except (KeyError, TypeError, ValueError) as error:
            raise StorageError(f"Not a reference range that this version reads ({error!r}).") from error
