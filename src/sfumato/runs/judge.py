"""One method judged on one case, as numbers and as states that add up over cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..interfaces import Method
from ..metrics.aggregate import AGGREGATIONS
from ..metrics.calibration_state import CalibrationState
from ..metrics.filtered import FilteredState
from ..metrics.histogram import ScoreHistogram
from ..metrics.overlap import dice_per_class, hd95_per_class, iou_per_class
from ..metrics.readers import consensus, ncc, reader_disagreement
from ..metrics.regions import ALL_REGIONS, region_masks
from ..metrics.selective import selective
from ..pipeline.result import CaseResult
from ..types import Kind

RANKING_METRICS = ("auroc", "auprc", "aurc", "eaurc", "augrc")
CALIBRATION_METRICS = ("ece", "ece_equal_mass", "ece_classwise", "brier", "nll", "error_ece")
METRICS = (*RANKING_METRICS, *CALIBRATION_METRICS)
HIGHER_IS_BETTER = {"auroc", "auprc"}
HISTOGRAM_BITS = 16
"""Leading bits of the score that tell bins apart; the bound is written beside every pooled number."""


@dataclass(frozen=True)
class Truth:
    """What a case is judged by.

    Args:
        name: of the case.
        patient: it belongs to.
        label: class numbers (*grid).
        readers: those of every reader, where there are several.
        spacing: of the grid, mm; 1 for pictures.
    """

    name: str
    patient: str
    label: np.ndarray
    readers: tuple[np.ndarray, ...] = ()
    spacing: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """Numbers of one method on one case, and the states that pooled numbers come from.

    Args:
        content: plain types: case, patient, overlap, scores, metrics per region, cost.
        histograms: per region, ranking score against mistakes.
        calibration: per region, probability against label.
        errors: per region, the error map against mistakes.
        filtered: overlap after doubtful voxels are left out (QU-BraTS), over the whole image.
    """

    content: Mapping[str, Any]
    histograms: Mapping[str, ScoreHistogram]
    calibration: Mapping[str, CalibrationState]
    errors: Mapping[str, CalibrationState]
    filtered: FilteredState


def judge(method: Method, result: CaseResult, truth: Truth, cost: Mapping[str, Any]) -> Judgement:
    """Judge a finished case.

    Args:
        method: that made it.
        result: with float32 maps.
        truth: what is known of the case.
        cost: kept beside the numbers.
    """
    masks = region_masks(result.segmentation, truth.label, regions=ALL_REGIONS)
    ranking = ranking_map(method, result)
    probability = np.clip(result.probability, 0, 1)  # sums of float32 may pass 1 by rounding
    error = error_map(result)
    wrong = result.segmentation != truth.label
    numbers, histograms, calibration, errors = {}, {}, {}, {}
    for region in ALL_REGIONS:
        mask = masks[region]
        histograms[region] = ScoreHistogram(HISTOGRAM_BITS)
        histograms[region].update(ranking[mask], wrong[mask])
        calibration[region] = CalibrationState(len(result.classes))
        calibration[region].update(probability[:, mask], truth.label[mask], result.segmentation[mask])
        errors[region] = CalibrationState()
        errors[region].update_confidence(error[mask], wrong[mask])
        numbers[region] = _numbers(ranking[mask], wrong[mask], calibration[region], errors[region])
    filtered = FilteredState(len(result.classes))
    filtered.update(error, result.segmentation, truth.label)
    content = {
        **_overlap(result, truth),
        "case": truth.name,
        "patient": truth.patient,
        "scores": {kind.value: float(score) for kind, score in result.scores.items()},
        "case_score": float(result.scores[case_score_kind(method)]),
        "relabelled": int((probability.argmax(axis=0) != result.segmentation).sum()),
        "aggregations": {n: float(f(error, result.segmentation)) for n, f in AGGREGATIONS.items()},
        "regions": numbers,
        "readers": _readers(ranking, result, truth, masks["near"]) if len(truth.readers) > 1 else None,
        "cost": dict(cost),
    }
    return Judgement(content, histograms, calibration, errors, filtered)


def ranking_map(method: Method, result: CaseResult) -> np.ndarray:
    """The map that orders mistakes: RANKING where there is one (its calibration, ERROR, has ties), else `ranks_by`.

    A method whose `ranks_by` is a score without a map orders voxels by its first map.
    """
    wanted = (Kind.RANKING, method.spec.ranks_by, *method.spec.maps)
    return result.maps[next(kind for kind in wanted if kind in result.maps)]


def error_map(result: CaseResult) -> np.ndarray:
    """Each voxel's probability of being wrong: the ERROR map, else 1 - the probability of its label."""
    if Kind.ERROR in result.maps:
        return np.clip(result.maps[Kind.ERROR], 0, 1)
    of_label = np.take_along_axis(result.probability, result.segmentation[None].astype(np.intp), axis=0)[0]
    return np.clip(1 - of_label, 0, 1)


def case_score_kind(method: Method) -> Kind:
    """The score that a method's cases are judged and decided by: the expected 1 - Dice where it has one."""
    return Kind.ERROR if Kind.ERROR in method.spec.scores else method.spec.ranks_by


def _numbers(
    ranking: np.ndarray, wrong: np.ndarray, calibration: CalibrationState, errors: CalibrationState
) -> dict[str, float]:
    found = asdict(selective(ranking, wrong))
    numbers = {name: found[name] for name in (*RANKING_METRICS, "error_rate", "count")}
    calibrated = {name: getattr(calibration, name) for name in CALIBRATION_METRICS if name != "error_ece"}
    return numbers | calibrated | {"error_ece": errors.ece}


def _overlap(result: CaseResult, truth: Truth) -> dict[str, Any]:
    classes = len(result.classes)
    dice = dice_per_class(result.segmentation, truth.label, classes)
    own = dice_per_class(result.probability.argmax(axis=0), truth.label, classes)
    return {
        "dice": dice.tolist(),
        "iou": iou_per_class(result.segmentation, truth.label, classes).tolist(),
        "hd95": hd95_per_class(result.segmentation, truth.label, classes, truth.spacing or None).tolist(),
        "own_dice": own.tolist(),
        "risk": float(1 - np.nanmean(dice)) if np.isfinite(dice).any() else 0.0,
    }


def _readers(ranking: np.ndarray, result: CaseResult, truth: Truth, near: np.ndarray) -> dict[str, float]:
    labels = np.stack(truth.readers)
    disagreement = reader_disagreement(labels, len(result.classes))
    agreed = consensus(labels, len(result.classes))
    aurocs = [selective(ranking[near], (result.segmentation != r)[near]).auroc for r in truth.readers]
    return {
        "ncc_ranking": ncc(ranking, disagreement),
        "ncc_error": ncc(error_map(result), disagreement),
        "ncc_ranking_near": ncc(ranking[near], disagreement[near]),
        "auroc_disagreement_near": selective(ranking[near], (disagreement > 0)[near]).auroc,
        "auroc_mean_of_readers_near": float(np.mean(aurocs)),
        "auroc_consensus_near": selective(ranking[near], (result.segmentation != agreed)[near]).auroc,
    }


def column(judgements: Sequence[Judgement], region: str, metric: str) -> np.ndarray:
    """One number per case."""
    return np.array([j.content["regions"][region][metric] for j in judgements], dtype=float)
