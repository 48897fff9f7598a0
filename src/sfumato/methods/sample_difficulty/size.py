"""What is left of a scale once the object's size is taken out, for large objects have a high scale by geometry alone.

ln S is fitted by a straight line in ln size (and whatever else is given: slices, spacing) over a reference set, by
least median of squares and least squares over the cases that fit it (Rousseeuw, 1984; Rousseeuw and Leroy, 1987):
up to half of the set may be anything. The line is stored, so a case's residual does not depend on the cases beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from ...errors import ConfigError, InputError, StorageError

CASES_EACH = 5
"""Least cases per coefficient."""
STARTS = 1000
"""Lines through as few cases as determine one, from which the best is taken."""
SEARCHED = 5000
"""Of more cases than these, that many drawn ones decide between the lines."""
KEPT = 1001
"""Most residuals of the reference set that are kept, evenly spaced in rank."""
CUT = 2.5
"""Robust standard deviations beyond which a case does not belong to the line (Rousseeuw and Leroy)."""
TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution in units of its median absolute deviation."""


@dataclass(frozen=True)
class SizeTrend:
    """The line ln S = intercept + sum of slope * ln predictor.

    Args:
        intercept: ln S of a case whose predictors are all 1.
        slopes: by predictor; -0.3 says that S falls by 0.3 % per per cent.
        spread: robust standard deviation of the residuals.
        count: cases it was fitted on.
        outliers: of these, the ones that did not belong to the line.
        residuals: of the reference set, rising, at most `KEPT`.

    Example:
        >>> size = np.array([10.0, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120])
        >>> scale = 0.01 * np.sqrt(size)
        >>> scale[3] /= 2
        >>> trend = SizeTrend.fit(scale, {"size": size})
        >>> round(trend.slopes["size"], 6), trend.outliers
        (0.5, 1)
        >>> trend.residual(scale, {"size": size}).round(4)[:5].tolist()
        [0.0, 0.0, 0.0, 0.6931, 0.0]
    """

    intercept: float
    slopes: Mapping[str, float]
    spread: float
    count: int
    outliers: int
    residuals: tuple[float, ...] = field(repr=False)

    @classmethod
    def fit(cls, scales: ArrayLike, predictors: Mapping[str, ArrayLike]) -> SizeTrend:
        """Fit the line on a reference set.

        Args:
            scales: S of every case; cases of a scale, or of a predictor, that is undefined or not above 0 are left out.
            predictors: name -> values above 0 of every case, as volume in any one unit, or slices with the class.

        Raises:
            ConfigError: no predictor.
            InputError: other lengths, fewer than `CASES_EACH` cases per coefficient, or predictors that do not
                vary apart from each other.
        """
        if not predictors:
            raise ConfigError("no predictor, expected at least one, as size.")
        response, design = _logs(scales, predictors)
        used = np.isfinite(response) & np.isfinite(design).all(axis=1)
        response, design = response[used], design[used]
        needed = CASES_EACH * design.shape[1]
        if len(response) < needed:
            raise InputError(f"{len(response)} cases with a scale and a size, expected at least {needed}.")
        if np.linalg.matrix_rank(design) < design.shape[1]:
            raise InputError(f"{', '.join(predictors)} do not vary, or only together; leave one out.")
        start = _least_median(design, response)
        away = np.abs(response - design @ start)
        # Of exact data the median is 0 but for rounding.
        inside = away <= max(CUT * TO_DEVIATION * float(np.median(away)), 1e-9)
        line = np.linalg.lstsq(design[inside], response[inside], rcond=None)[0]
        residuals = np.sort(_heights(design, line) - response)
        kept = np.linspace(0, len(residuals) - 1, min(KEPT, len(residuals))).round().astype(int)
        return cls(
            intercept=float(line[0]),
            slopes=dict(zip(predictors, line[1:].tolist(), strict=True)),
            spread=TO_DEVIATION * float(np.median(np.abs(residuals))),
            count=len(residuals),
            outliers=int((~inside).sum()),
            residuals=tuple(residuals[kept].tolist()),
        )

    def residual(self, scales: ArrayLike, predictors: Mapping[str, ArrayLike]) -> Float[np.ndarray, "cases"]:
        """Line - ln S, > 0 where the scale is lower (the case harder) than its size explains; NaN where undefined.

        Raises:
            ConfigError: other predictors than it was fitted with.
            InputError: other lengths.
        """
        if set(predictors) != set(self.slopes):
            raise ConfigError(
                f"predictors {sorted(predictors)}, expected those of the fit, {sorted(self.slopes)}."
            )
        response, design = _logs(scales, {name: predictors[name] for name in self.slopes})
        return _heights(design, np.array([self.intercept, *self.slopes.values()])) - response

    def rank(self, scales: ArrayLike, predictors: Mapping[str, ArrayLike]) -> Float[np.ndarray, "cases"]:
        """Share of the reference set with a lower residual, equal ones counted half, in [0, 1]; NaN where undefined."""
        found, reference = self.residual(scales, predictors), np.array(self.residuals)
        below, upto = (reference.searchsorted(found, side) for side in ("left", "right"))
        return np.where(np.isfinite(found), (below + upto) / (2 * len(reference)), np.nan)

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self) | {"slopes": dict(self.slopes), "residuals": list(self.residuals)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SizeTrend:
        """The inverse of `to_json`.

        Raises:
            StorageError: other fields than those.
        """
        try:
            return cls(**{**content, "residuals": tuple(content["residuals"])})
        except (KeyError, TypeError) as error:
            raise StorageError(f"Not a size trend that this version reads ({error!r}).") from error


def _logs(scales: ArrayLike, predictors: Mapping[str, ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """ln S (cases,) and the design (cases, 1 + predictors); NaN where there is no logarithm."""
    columns = {"scales": np.asarray(scales, np.float64)}
    columns |= {name: np.asarray(values, np.float64) for name, values in predictors.items()}
    shape = columns["scales"].shape
    for name, values in columns.items():
        if values.ndim != 1 or values.shape != shape:
            raise InputError(f"{name} of shape {values.shape}, scales {shape}, expected one number per case.")
    usable = {n: np.where(np.isfinite(v) & (v > 0), v, np.nan) for n, v in columns.items()}
    response, *rest = (np.log(v) for v in usable.values())
    return response, np.stack([np.ones(len(response)), *rest], axis=1)


def _heights(design: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Of the line at every case; a matrix product would round by the number of cases."""
    return (design * line).sum(axis=1)


def _least_median(design: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Of lines through a few cases each, the one whose residuals have the lowest median of squares."""
    rng, width = np.random.default_rng(0), design.shape[1]
    judges = rng.permutation(len(response))[:SEARCHED]
    judged, wanted = design[judges], response[judges]
    middle = (len(judges) + width + 1) // 2 - 1
    best, lowest = np.zeros(width), np.inf
    for _ in range(STARTS):
        few = rng.choice(len(response), width, replace=False)
        line = np.linalg.lstsq(design[few], response[few], rcond=None)[0]
        height = float(np.partition(np.abs(wanted - judged @ line), middle)[middle])
        if height < lowest:
            best, lowest = line, height
    return best
