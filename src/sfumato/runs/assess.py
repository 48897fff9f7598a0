"""Labelled cases through a method: per-case and pooled numbers, for `evaluate` and for what `fit` keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..datasets import Case
from ..decision import fit_decision_rule
from ..errors import InputError, SfumatoError
from ..imaging import read_image, read_label
from ..interfaces import Method
from ..metrics.calibration import Reliability, brier, negative_log_likelihood, reliability
from ..metrics.overlap import dice_per_class
from ..metrics.regions import REGIONS, region_masks
from ..metrics.selective import risk_coverage_curve, selective
from ..pipeline.case import PredictOptions, predict_image
from ..pipeline.prepare import prepare_label
from ..pipeline.result import CaseResult
from ..registry import get_method
from ..types import Kind

HISTOGRAM_BINS = 4096
"""Of the error map, for the voxel rule."""
USUAL_SHARE = 0.9
"""Wanted risk of accepted cases as a share of the mean risk, when nobody names one."""
POOLED_VOXELS = 20_000_000
"""Pooled numbers use all voxels up to this many, then every n-th."""


@dataclass(frozen=True)
class AssessedCase:
    """One labelled case: numbers per region for the method and for softmax entropy, and what pooling needs.

    Args:
        name: of the case.
        patient: it belongs to.
        dice: per foreground class; NaN where a class is in neither map.
        dice_without: the same from the segmenter alone.
        risk: 1 - mean Dice over the classes that are there.
        scores: case scores by kind.
        regions: region -> `method` and `entropy` -> metric -> value.
        voxels: region -> name -> values, for pooling: errors, method, entropy, confidence_raw, confidence, error.
    """

    name: str
    patient: str
    dice: np.ndarray
    dice_without: np.ndarray
    risk: float
    scores: Mapping[str, float]
    regions: Mapping[str, Mapping[str, Mapping[str, float]]]
    voxels: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True)
class Assessment:
    """All cases that could be assessed, and one sentence for each that could not."""

    cases: tuple[AssessedCase, ...]
    problems: tuple[str, ...]


def assess_cases(
    method: Method,
    cases: Iterable[Case],
    instances: bool = False,
    resample: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Assessment:
    """Run a method and softmax entropy over labelled cases.

    Raises:
        InputError: not one case could be assessed.
    """
    entropy = get_method("softmax")
    baseline = entropy.build(entropy.config(), method.segmenter)
    done, problems = [], []
    for case in cases:
        try:
            done.append(_assess(method, baseline, case, instances, resample))
        except SfumatoError as error:
            problems.append(str(error))
        progress(case.name)
    if not done:
        raise InputError("No case could be assessed." + (f" The first: {problems[0]}" if problems else ""))
    return Assessment(tuple(done), tuple(problems))


def _assess(method: Method, baseline: Method, case: Case, instances: bool, resample: bool) -> AssessedCase:
    if case.label is None:
        raise InputError(f"{case.name}: no label, expected one to judge by.")
    image = read_image(case.images, case.name, resample)
    spec = method.segmenter.spec  # type: ignore[attr-defined]
    label = prepare_label(read_label(case.label, case.name, resample), image, spec, instances)
    options = PredictOptions(float32=True)
    result = predict_image(method, image, options=options)
    alone = predict_image(baseline, image, options=options)
    dice = dice_per_class(result.segmentation, label, len(spec.classes))
    risk = float(1 - np.nanmean(dice)) if np.isfinite(dice).any() else 0.0
    voxels = {
        name: _voxels(method, result, alone, label, mask)
        for name, mask in region_masks(result.segmentation, label).items()
    }
    return AssessedCase(
        case.name,
        case.patient,
        dice,
        dice_per_class(alone.segmentation, label, len(spec.classes)),
        risk,
        {k.value: v for k, v in result.scores.items()},
        {name: _region_numbers(v) for name, v in voxels.items()},
        voxels,
    )


def _voxels(
    method: Method, result: CaseResult, alone: CaseResult, label: np.ndarray, mask: np.ndarray
) -> dict[str, np.ndarray]:
    # The ranking map orders mistakes best; the error map is its monotone calibration and has ties.
    ranks = Kind.RANKING if Kind.RANKING in result.maps else method.spec.ranks_by
    return {
        "errors": (result.segmentation != label)[mask],
        "method": result.maps[ranks][mask],
        "entropy": alone.maps[Kind.PREDICTIVE][mask],
        "error": result.maps[Kind.ERROR][mask] if Kind.ERROR in result.maps else np.zeros(0, np.float32),
        "probability": result.probability[:, mask],
        "probability_raw": alone.probability[:, mask],
        "label": label[mask],
    }


def _region_numbers(voxels: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    errors = voxels["errors"]
    method = asdict(selective(voxels["method"], errors)) | _calibration(
        voxels["probability"], voxels, "error"
    )
    entropy = asdict(selective(voxels["entropy"], errors)) | _calibration(
        voxels["probability_raw"], voxels, None
    )
    return {"method": method, "entropy": entropy}


def _calibration(
    probability: np.ndarray, voxels: Mapping[str, np.ndarray], error: str | None
) -> dict[str, float]:
    numbers = {
        "ece": reliability(probability.max(0, initial=0), ~voxels["errors"]).ece,
        "brier": brier(probability, voxels["label"]),
        "nll": negative_log_likelihood(probability, voxels["label"]),
    }
    if error and voxels[error].size:
        numbers["error_ece"] = reliability(voxels[error], voxels["errors"]).ece
    return numbers


def pooled(cases: Sequence[AssessedCase], region: str) -> dict[str, dict[str, float]]:
    """The region's numbers over all voxels of all cases together."""
    total = sum(c.voxels[region]["errors"].size for c in cases)
    step = -(-total // POOLED_VOXELS)
    names = cases[0].voxels[region]
    joined = {n: np.concatenate([c.voxels[region][n][..., ::step] for c in cases], axis=-1) for n in names}
    return _region_numbers(joined)


def calibration_record(
    method: Method, assessed: Assessment, target_risk: float | None, target_voxel_risk: float
) -> dict[str, Any]:
    """Decision rules and curves of the cases that calibrated a method, as plain types for `method.json`."""
    cases = assessed.cases
    kind = (Kind.ERROR if Kind.ERROR in method.spec.scores else method.spec.ranks_by).value
    scores, risks = np.array([c.scores[kind] for c in cases]), np.array([c.risk for c in cases])
    target = USUAL_SHARE * float(risks.mean()) if target_risk is None else target_risk
    rules = {"case": fit_decision_rule(scores, risks, target, "case", kind).to_json()}
    if cases[0].voxels["near"]["error"].size:
        rules["voxel"] = _voxel_rule(cases, target_voxel_risk).to_json()
    return {"rules": rules, "curves": curves_of(cases, "calibration cases")}


def _voxel_rule(cases: Sequence[AssessedCase], target: float):
    error = np.concatenate([c.voxels["near"]["error"] for c in cases])
    wrong = np.concatenate([c.voxels["near"]["errors"] for c in cases])
    code = np.clip((error * HISTOGRAM_BINS).astype(np.int64), 0, HISTOGRAM_BINS - 1)
    size = np.bincount(code, minlength=HISTOGRAM_BINS)
    bad = np.bincount(code, weights=wrong, minlength=HISTOGRAM_BINS)
    there = size > 0
    upper = (np.arange(HISTOGRAM_BINS) + 1)[there] / HISTOGRAM_BINS
    return fit_decision_rule(upper, bad[there] / size[there], target, "voxel", "error", size[there])


def curves_of(cases: Sequence[AssessedCase], source: str) -> dict[str, Any]:
    """Reliability and risk-coverage near the foreground, of the method and of the raw model, as plain numbers."""
    series: dict[str, Any] = {"source": source, "reliability": {}, "risk_coverage": {}}
    for name, probability, score in (
        ("raw model", "probability_raw", "entropy"),
        ("method", "probability", "method"),
    ):
        bins = [
            reliability(c.voxels["near"][probability].max(0, initial=0), ~c.voxels["near"]["errors"])
            for c in cases
        ]
        total = sum(bins[1:], start=bins[0])
        series["reliability"][name] = _plain_bins(total)
        scores = np.concatenate([c.voxels["near"][score] for c in cases])
        errors = np.concatenate([c.voxels["near"]["errors"] for c in cases])
        coverage, risk = (
            risk_coverage_curve(scores, errors, 50) if errors.size else (np.zeros(0), np.zeros(0))
        )
        series["risk_coverage"][name] = {"coverage": coverage.tolist(), "risk": risk.tolist()}
    return series


def _plain_bins(bins: Reliability) -> dict[str, list[float]]:
    there = bins.count > 0
    return {
        "confidence": (bins.confidence[there] / bins.count[there]).tolist(),
        "accuracy": (bins.accuracy[there] / bins.count[there]).tolist(),
        "count": bins.count[there].tolist(),
    }


__all__ = [
    "REGIONS",
    "AssessedCase",
    "Assessment",
    "assess_cases",
    "calibration_record",
    "curves_of",
    "pooled",
]
