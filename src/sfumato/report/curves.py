"""The curves of an index page, as plain numbers that are stored in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import StorageError


@dataclass(frozen=True)
class ReliabilityBins:
    """How often the most likely class was right, bin by bin of its probability.

    Args:
        confidence: (bins,) mean probability of the most likely class, in [0, 1]; NaN in an empty bin.
        accuracy: (bins,) share of voxels where that class was right, in [0, 1]; NaN in an empty bin.
        count: (bins,) voxels.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[float, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error, sum of n_b / N |accuracy - confidence|; NaN without voxels.

        Example:
            >>> round(ReliabilityBins((0.6, 0.9), (0.5, 0.9), (10, 30)).ece, 6)
            0.025
        """
        filled = [
            (c, a, n) for c, a, n in zip(self.confidence, self.accuracy, self.count, strict=True) if n > 0
        ]
        total = sum(n for *_, n in filled)
        return sum(n * abs(a - c) for c, a, n in filled) / total if total else math.nan


@dataclass(frozen=True)
class RiskCoverage:
    """What goes wrong among the most trusted share.

    Args:
        coverage: (points,) share that is trusted, in (0, 1].
        risk: (points,) share of it that is wrong, in [0, 1].
    """

    coverage: tuple[float, ...]
    risk: tuple[float, ...]


@dataclass(frozen=True)
class Curves:
    """Reliability and risk-coverage, one series per name (`raw model` and `method`).

    Args:
        source: which cases the curves come from, such as `calibration cases` or `test cases`.
        reliability: by series name.
        risk_coverage: by series name.
        region: which voxels were counted.
    """

    source: str
    reliability: Mapping[str, ReliabilityBins] = field(default_factory=dict)
    risk_coverage: Mapping[str, RiskCoverage] = field(default_factory=dict)
    region: str = "voxels near the foreground"

    def to_json(self) -> dict[str, Any]:
        """Plain types; NaN becomes null."""
        return {
            "source": self.source,
            "region": self.region,
            "reliability": {name: _plain(series) for name, series in self.reliability.items()},
            "risk_coverage": {name: _plain(series) for name, series in self.risk_coverage.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Curves:
        """The inverse of `to_json`.

        Raises:
            StorageError: something is missing, not a number, or of unequal length.
        """
        try:
            bins = {str(n): _series(s, ReliabilityBins) for n, s in content["reliability"].items()}
            risks = {str(n): _series(s, RiskCoverage) for n, s in content["risk_coverage"].items()}
            region = str(content.get("region", cls.region))
            return cls(str(content["source"]), bins, risks, region)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise StorageError(
                f"The stored curves are not ones this version reads ({type(error).__name__}: {error}); "
                "fit or evaluate again."
            ) from error


def _plain(series: ReliabilityBins | RiskCoverage) -> dict[str, list[float | None]]:
    return {name: [v if math.isfinite(v) else None for v in values] for name, values in vars(series).items()}


def _series(content: Mapping[str, Sequence[float | None]], kind: type) -> Any:
    names = kind.__dataclass_fields__
    columns = {name: tuple(math.nan if v is None else float(v) for v in content[name]) for name in names}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"series of unequal length {lengths}")
    return kind(**columns)
