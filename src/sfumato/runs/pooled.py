"""Metrics of all voxels of all cases together, from the states of the cases, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..metrics.bootstrap import resample_weights, resampled_interval
from ..metrics.calibration_state import CalibrationState
from ..metrics.pooled import pooled_bootstrap
from .judge import CALIBRATION_METRICS, RANKING_METRICS, Judgement

GROUPS = 1024
"""Groups of score bins in the resamples; the value itself comes from all bins."""
RESAMPLED = ("ece", "brier", "nll", "error_ece")
"""Calibration metrics with an interval: functions of a few sums."""


def pooled_metrics(
    judgements: Sequence[Judgement], region: str, seed: int, resamples: int
) -> dict[str, dict[str, float]]:
    """Value, interval and bound of every metric.

    Args:
        judgements: of one method.
        region: one of the regions.
        seed: of the bootstrap.
        resamples: of patients; 0 leaves the intervals out.
    """
    patients = [j.content["patient"] for j in judgements]
    histograms = [j.histograms[region] for j in judgements]
    whole = sum(histograms[1:], start=histograms[0]).selective()
    found = {name: _entry(getattr(whole, name).value, getattr(whole, name).bound) for name in RANKING_METRICS}
    if resamples:
        for name, interval in pooled_bootstrap(histograms, patients, seed, resamples, groups=GROUPS).items():
            if name in found:
                found[name] |= {"low": interval.low, "high": interval.high}
    states = [j.calibration[region] for j in judgements]
    errors = [j.errors[region] for j in judgements]
    total, error = _total(states), _total(errors)
    found |= {n: _entry(getattr(total, n)) for n in CALIBRATION_METRICS if n != "error_ece"}
    found["error_ece"] = _entry(error.ece)
    if resamples:
        for name, low, high in _intervals(states, errors, patients, seed, resamples):
            found[name] |= {"low": low, "high": high}
    return found


def _entry(value: float, bound: float = 0.0) -> dict[str, float]:
    return {"value": value, "low": float("nan"), "high": float("nan"), "bound": bound}


def _total(states: Sequence[CalibrationState]) -> CalibrationState:
    return sum(states[1:], start=states[0])


def _intervals(
    states: Sequence[CalibrationState],
    errors: Sequence[CalibrationState],
    patients: Sequence[str],
    seed: int,
    resamples: int,
):
    """Name, low and high of each metric that follows from sums which add up over patients."""
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    weights = resample_weights(len(names), resamples, seed)

    def resampled(tables: Sequence[np.ndarray]) -> np.ndarray:
        flat = np.zeros((len(names), tables[0].size))
        for table, place in zip(tables, owner, strict=True):
            flat[place] += table.ravel()
        return (weights @ flat).reshape(resamples, *tables[0].shape)

    count = resampled([np.array([s.count], float) for s in states])[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = {
            "ece": _gaps(resampled([_bins(s) for s in states])) / count,
            "error_ece": _gaps(resampled([_bins(s) for s in errors])) / count,
            "brier": resampled([np.array([s.brier * s.count]) for s in states])[:, 0] / count,
            "nll": resampled([np.array([s.nll * s.count]) for s in states])[:, 0] / count,
        }
    for name in RESAMPLED:
        interval = resampled_interval(float("nan"), values[name])
        yield name, interval.low, interval.high


def _bins(state: CalibrationState) -> np.ndarray:
    """(2, bins): sums of confidence and of being right."""
    return np.stack([state.reliability.confidence, state.reliability.accuracy])


def _gaps(table: np.ndarray) -> np.ndarray:
    return np.abs(table[:, 1] - table[:, 0]).sum(axis=1)
