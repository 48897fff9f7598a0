"""Labelled cases through a method and softmax entropy, one shared pass: for `evaluate` and for what `fit` keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..datasets import Case
from ..decision import DecisionRule, fit_decision_rule
from ..errors import InputError, SfumatoError
from ..imaging import Image, read_image, read_label
from ..interfaces import Method
from ..metrics.calibration_state import CalibrationState
from ..metrics.histogram import ScoreHistogram
from ..metrics.regions import region_masks
from ..pipeline.case import PredictOptions, predict_methods
from ..pipeline.prepare import prepare_label
from ..registry import get_method
from ..segmenters.spec import SegmenterSpec
from ..types import TextPrompt
from .judge import Judgement, Truth, case_score_kind, error_map, judge

BASELINE = "softmax"
"""What every method is judged beside; it is always among those compared."""
HISTOGRAM_BINS = 4096
"""Of the error map, for the voxel rule."""
USUAL_SHARE = 0.9
"""Wanted risk of accepted cases as a share of the mean risk, when nobody names one."""


@dataclass(frozen=True)
class AssessedCase:
    """One labelled case, judged for the method and for softmax entropy.

    Args:
        name: of the case.
        patient: it belongs to.
        risk: 1 - mean Dice over the classes that are there.
        score: the method's case score.
        method: judgement of the method.
        entropy: judgement of softmax entropy.
        near_errors: (2, HISTOGRAM_BINS) voxels near the foreground and mistakes among them, by error map.
    """

    name: str
    patient: str
    risk: float
    score: float
    method: Judgement
    entropy: Judgement
    near_errors: np.ndarray


@dataclass(frozen=True)
class Assessment:
    """All cases that could be assessed, and one sentence for each that could not."""

    cases: tuple[AssessedCase, ...]
    problems: tuple[str, ...]


def read_truth(
    case: Case, image: Image, spec: SegmenterSpec, instances: bool = False, resample: bool = False
) -> Truth:
    """What a case is judged by: its label, and those of all readers.

    Raises:
        InputError: no label, or one that does not fit the image.
    """
    if case.label is None:
        raise InputError(f"{case.name}: no label, expected one to judge by.")
    paths = (case.label, *case.readers)
    first, *readers = (
        prepare_label(read_label(path, case.name, resample), image, spec, instances) for path in paths
    )
    spacing = tuple(image.geometry.spacing) if image.geometry.dims == 3 else ()
    return Truth(case.name, case.patient, first, tuple(readers), spacing)


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
    entropy = get_method(BASELINE)
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
    image = read_image(case.images, case.name, resample)
    truth = read_truth(case, image, method.segmenter.spec, instances, resample)  # type: ignore[attr-defined]
    return assess_image(method, baseline, image, truth)


def assess_image(
    method: Method, baseline: Method, image: Image, truth: Truth, prompt: TextPrompt | None = None
) -> AssessedCase:
    """Judge a method and softmax entropy on one image, in one pass.

    Args:
        method: fitted.
        baseline: softmax on the same segmenter.
        image: as read.
        truth: on its grid.
        prompt: for segmenters that read a sentence.

    Raises:
        InputError: an image that does not fit the segmenter.
    """
    options = PredictOptions(float32=True)
    result, alone = predict_methods([method, baseline], image, options=options, prompt=prompt)
    judged, entropy = judge(method, result, truth, {}), judge(baseline, alone, truth, {})
    near = region_masks(result.segmentation, truth.label)["near"]
    code = np.minimum((error_map(result)[near] * HISTOGRAM_BINS).astype(np.int64), HISTOGRAM_BINS - 1)
    wrong = (result.segmentation != truth.label)[near]
    counts = [np.bincount(code, minlength=HISTOGRAM_BINS), np.bincount(code[wrong], minlength=HISTOGRAM_BINS)]
    return AssessedCase(
        truth.name,
        truth.patient,
        judged.content["risk"],
        judged.content["case_score"],
        judged,
        entropy,
        np.stack(counts),
    )


def calibration_record(
    method: Method, assessed: Assessment, target_risk: float | None, target_voxel_risk: float
) -> dict[str, Any]:
    """Decision rules and curves of the cases that calibrated a method, as plain types for `method.json`."""
    cases = assessed.cases
    kind = case_score_kind(method).value
    scores, risks = np.array([c.score for c in cases]), np.array([c.risk for c in cases])
    target = USUAL_SHARE * float(risks.mean()) if target_risk is None else target_risk
    rules = {"case": fit_decision_rule(scores, risks, target, "case", kind).to_json()}
    if sum(c.near_errors[0].sum() for c in cases):
        rules["voxel"] = _voxel_rule(cases, target_voxel_risk).to_json()
    return {"rules": rules, "curves": curves_of(cases, "calibration cases")}


def _voxel_rule(cases: Sequence[AssessedCase], target: float) -> DecisionRule:
    size, bad = np.sum([c.near_errors for c in cases], axis=0)
    there = size > 0
    upper = (np.arange(HISTOGRAM_BINS) + 1)[there] / HISTOGRAM_BINS
    return fit_decision_rule(upper, bad[there] / size[there], target, "voxel", "error", size[there])


def curves_of(cases: Sequence[AssessedCase], source: str) -> dict[str, Any]:
    """Reliability and risk-coverage near the foreground, of the method and of the raw model, as plain numbers."""
    series: dict[str, Any] = {"source": source, "reliability": {}, "risk_coverage": {}}
    for name, judgements in (
        ("raw model", [c.entropy for c in cases]),
        ("method", [c.method for c in cases]),
    ):
        series["reliability"][name], series["risk_coverage"][name] = pooled_curves(judgements, "near")
    return series


def pooled_curves(judgements: Sequence[Judgement], region: str, points: int = 50) -> tuple[dict, dict]:
    """Reliability bins and the risk-coverage curve of all cases together, as plain numbers."""
    calibration = sum(
        (j.calibration[region] for j in judgements[1:]), start=judgements[0].calibration[region]
    )
    histogram = sum((j.histograms[region] for j in judgements[1:]), start=judgements[0].histograms[region])
    assert isinstance(calibration, CalibrationState)
    assert isinstance(histogram, ScoreHistogram)
    bins = calibration.reliability
    there = bins.count > 0
    reliability = {
        "confidence": (bins.confidence[there] / bins.count[there]).tolist(),
        "accuracy": (bins.accuracy[there] / bins.count[there]).tolist(),
        "count": bins.count[there].tolist(),
    }
    coverage, risk = histogram.risk_coverage(points) if histogram.counts.any() else (np.zeros(0), np.zeros(0))
    return reliability, {"coverage": coverage.tolist(), "risk": risk.tolist()}
