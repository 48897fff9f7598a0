"""Settings of sample difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import UnknownNameError
from ...measures.spectrum import POWERS
from .gram import CENTRES
from .range import ReferenceRange
from .spectrum import AGGREGATES, AXES


@dataclass(frozen=True)
class SampleDifficultyConfig:
    """Which scale, and the range it is measured in.

    Args:
        convention: of the spectrum: `energy` (squared singular values, the paper) or `amplitude` (the released code).
        centre: what is taken from a class map first: `none` (the paper), the mean of each `row`, or its `global` mean.
        aggregate: over foreground classes: `sum` (the paper), `mean_present`, `min`, or names of classes to sum.
        axis: which axis becomes the rows: `D`, `H` or `W`; `auto` is D for volumes and H for pictures, whose one slice
            would be one row.
        range: `minmax` (the paper), or `percentile`, which one odd case cannot stretch.
        percentiles: ends of the range `percentile`.
    """

    convention: Literal["energy", "amplitude"] = "energy"
    centre: Literal["none", "row", "global"] = "none"
    aggregate: str | tuple[str, ...] = "sum"
    axis: Literal["auto", "D", "H", "W"] = "auto"
    range: Literal["minmax", "percentile"] = "minmax"
    percentiles: tuple[float, float] = (1.0, 99.0)

    def __post_init__(self) -> None:
        for name, known in (
            ("convention", tuple(POWERS)),
            ("centre", CENTRES),
            ("axis", ("auto", *AXES)),
            ("range", ("minmax", "percentile")),
        ):
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        if isinstance(self.aggregate, str) and self.aggregate not in AGGREGATES:
            raise UnknownNameError("aggregate", self.aggregate, (*AGGREGATES, "a list of class names"))
        self.empty_range()

    def empty_range(self) -> ReferenceRange:
        """A range of this kind, without cases."""
        return ReferenceRange(method=self.range, percentiles=self.percentiles)
