"""From judgements to the numbers of one condition: means with intervals, paired differences, pooled values, order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import InputError
from ...metrics.bootstrap import Interval, bootstrap_mean, resample_weights, resampled_interval
from ...metrics.cases import case_aurc, case_auroc, spearman
from ...metrics.ranking import rank_stability
from ...metrics.regions import ALL_REGIONS
from ..assess import BASELINE, pooled_curves
from ..judge import HIGHER_IS_BETTER, METRICS, Judgement, column
from ..pooled import pooled_metrics

ORDERED_BY = ("auroc", "aurc")
"""Metrics that the order of methods is judged by."""
CURVE_POINTS = 50
LOW_DICE = 0.25
"""Share of the cases whose Dice counts as low."""

Judged = Mapping[str, Sequence[Judgement]]
"""Method -> judgements, the same cases in the same order for all."""


def summarise(
    judged: Judged, classes: Sequence[str], seed: int, resamples: int, full: bool
) -> dict[str, Any]:
    """Everything that is said about one condition.

    Args:
        judged: see `Judged`.
        classes: names, background first.
        seed: of the bootstrap.
        resamples: of patients.
        full: with intervals of the pooled values, which take the most time.
    """
    first = judged[BASELINE]
    patients = [j.content["patient"] for j in first]
    draw = Draw(patients, seed, resamples)
    return {
        "cases": len(first),
        "segmentation": _segmentation(first, classes, draw),
        "own_dice": {label: draw.mean([_mean_dice(j) for j in js]) for label, js in judged.items()},
        "regions": {region: _region(judged, region, draw, full) for region in ALL_REGIONS},
        "ranking": {region: _order(judged, region, draw) for region in ALL_REGIONS},
        "case_level": {label: _case_level(js, draw) for label, js in judged.items()},
        "filtered": {label: _filtered(js) for label, js in judged.items()},
        "readers": _readers(judged, draw),
    }


@dataclass(frozen=True)
class Draw:
    """Which patients the cases belong to, and how they are resampled: the same for every method and metric.

    Args:
        patients: of each case.
        seed: of the resampling.
        resamples: how many.
    """

    patients: Sequence[str]
    seed: int
    resamples: int

    def mean(self, values: Sequence[float] | np.ndarray) -> dict[str, Any]:
        """Mean over cases with its interval, as plain numbers."""
        return as_plain(bootstrap_mean(values, self.patients, self.seed, self.resamples))

    def statistic(self, function: Callable[..., float], *columns: np.ndarray) -> dict[str, Any]:
        """A function of all cases together, with its percentile interval, as plain numbers."""
        names, owner = np.unique(np.asarray(self.patients), return_inverse=True)
        values = []
        for weights in resample_weights(len(names), self.resamples, self.seed):
            rows = np.repeat(np.arange(len(owner)), weights[owner])
            values.append(function(*(column[rows] for column in columns)))
        return as_plain(resampled_interval(function(*columns), np.array(values)))


def as_plain(interval: Interval) -> dict[str, Any]:
    """An interval as plain numbers."""
    return {
        "mean": interval.value,
        "low": interval.low,
        "high": interval.high,
        "cases": interval.count,
        "undefined": interval.undefined,
        "excludes_zero": interval.excludes_zero,
    }


def _mean_dice(judgement: Judgement) -> float:
    own = np.array(judgement.content["own_dice"], dtype=float)
    return float(np.nanmean(own)) if np.isfinite(own).any() else float("nan")


def _segmentation(judgements: Sequence[Judgement], classes: Sequence[str], draw: Draw) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("dice", "iou", "hd95"):
        table = np.array([j.content[name] for j in judgements], dtype=float)
        known = np.isfinite(table)
        means = np.where(known, table, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
        per_class = {c: draw.mean(table[:, i]) for i, c in enumerate(classes[1:])}
        found[name] = {"mean": draw.mean(means), **per_class}
    return found


def _region(judged: Judged, region: str, draw: Draw, full: bool) -> dict[str, Any]:
    found = {}
    for label, judgements in judged.items():
        entry: dict[str, Any] = {"per_case": {}, "difference": None if label == BASELINE else {}}
        for metric in METRICS:
            values = column(judgements, region, metric)
            entry["per_case"][metric] = draw.mean(values)
            if label != BASELINE:
                entry["difference"][metric] = draw.mean(values - column(judged[BASELINE], region, metric))
        entry["pooled"] = pooled_metrics(judgements, region, draw.seed, draw.resamples if full else 0)
        entry["reliability"], entry["risk_coverage"] = pooled_curves(judgements, region, CURVE_POINTS)
        found[label] = entry
    return found


def _order(judged: Judged, region: str, draw: Draw) -> dict[str, Any]:
    """Per metric and method: mean rank with interval, and in which share of the resamples it is first."""
    found = {}
    for metric in ORDERED_BY:
        values = {label: column(js, region, metric) for label, js in judged.items()}
        found[metric] = _stability(values, draw, metric in HIGHER_IS_BETTER)
    return found


def _stability(values: Mapping[str, np.ndarray], draw: Draw, higher: bool) -> dict[str, dict[str, float]]:
    try:
        found = rank_stability(values, draw.patients, higher, draw.seed, draw.resamples)
    except InputError:  # no case in which every method is defined: no order
        nan = float("nan")
        return {label: {"first": nan, "mean_rank": nan, "low": nan, "high": nan} for label in values}
    return {
        label: {"first": r.first, "mean_rank": r.rank.value, "low": r.rank.low, "high": r.rank.high}
        for label, r in found.items()
    }


def _case_level(judgements: Sequence[Judgement], draw: Draw) -> dict[str, Any]:
    risks = np.array([j.content["risk"] for j in judgements])
    scores = np.array([j.content["case_score"] for j in judgements])
    limit = float(np.quantile(1 - risks, LOW_DICE))
    names = judgements[0].content["aggregations"]
    aggregated = {
        name: spearman(np.array([j.content["aggregations"][name] for j in judgements]), risks)
        for name in names
    }
    return {
        "spearman": draw.statistic(spearman, scores, risks),
        "aurc": draw.statistic(case_aurc, scores, risks),
        "aurc_perfect": case_aurc(risks, risks),
        "aurc_at_random": float(risks.mean()),
        "auroc_low_dice": case_auroc(scores, 1 - risks, limit),
        "low_dice": limit,
        "aggregations": aggregated,
    }


def _filtered(judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Areas, score and Dice curve of all cases together, mean over the classes that have them."""
    state = sum((j.filtered for j in judgements[1:]), start=judgements[0].filtered)
    curves = {
        "dice_auc": state.dice,
        "ftp_auc": state.filtered_true_positives,
        "ftn_auc": state.filtered_true_negatives,
    }
    found = {name: _known_mean(np.trapezoid(curve, axis=1) / 100) for name, curve in curves.items()}
    dice = [_known_mean(column) for column in state.dice.T]
    return found | {"score": _known_mean(state.score), "dice": dice}


def _known_mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _readers(judged: Judged, draw: Draw) -> dict[str, Any] | None:
    content = judged[BASELINE][0].content["readers"]
    if content is None:
        return None
    return {
        label: {
            name: draw.mean([(j.content["readers"] or {}).get(name, float("nan")) for j in js])
            for name in content
        }
        for label, js in judged.items()
    }
