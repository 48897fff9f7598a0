"""The files of one case: label map, calibrated probability, maps of doubt, and their description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..imaging import write_label_picture, write_map_picture, write_nifti
from ..pipeline.result import CaseResult, unit
from ..types import Kind

MAP_MEANING = {
    Kind.PREDICTIVE: "entropy of the predicted probability, nats",
    Kind.ALEATORIC: "ambiguity in the data; only the order means something",
    Kind.EPISTEMIC: "variance of the probability under perturbation of the last layer; only the order means something",
    Kind.RANKING: "orders mistakes, higher = more likely wrong; only the order means something",
    Kind.ERROR: "probability that the voxel's label is wrong",
    Kind.PROMPT: "what a better prompt would fix",
    Kind.TASK: "what a clearer task would fix",
}


def write_maps(
    folder: Path, result: CaseResult, label_values: Sequence[int], float32: bool
) -> dict[str, dict[str, Any]]:
    """Write every map of a case and return what each file holds.

    Volumes: `.nii.gz`, maps as uint8 with slope over their range (error at most range / 510) unless `float32`.
    Pictures: labels as `.png`, maps as float32 `.tiff`.
    """
    labels = np.asarray(label_values)[result.segmentation]
    labels = labels.astype(
        np.uint8 if labels.max(initial=0) < 256 and labels.min(initial=0) >= 0 else np.int32
    )
    maps = {
        "probability": (result.probability, (0.0, 1.0)),
        **{k.value: _with_range(k, m) for k, m in result.maps.items()},
    }
    if result.image.geometry.dims == 2:
        return _write_pictures(folder, labels, maps)
    described = {
        "segmentation.nii.gz": {"meaning": "label values of the data set", "stored": str(labels.dtype)}
    }
    write_nifti(folder / "segmentation.nii.gz", labels, result.image.geometry)
    for name, (array, value_range) in maps.items():
        values = unit(array) if float32 and array.dtype == np.uint8 else array
        write_nifti(
            folder / f"{name}.nii.gz", values, result.image.geometry, None if float32 else value_range
        )
        described[f"{name}.nii.gz"] = _describe(name, value_range, float32)
    return described


def _with_range(kind: Kind, array: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    if kind is Kind.ERROR:
        return array, (0.0, 1.0)
    return array, (float(array.min(initial=0)), float(array.max(initial=0)))


def _describe(name: str, value_range: tuple[float, float], float32: bool) -> dict[str, Any]:
    meaning = (
        "calibrated probability per class, classes last" if name == "probability" else MAP_MEANING[Kind(name)]
    )
    error = 0.0 if float32 else (value_range[1] - value_range[0]) / 510
    return {
        "meaning": meaning,
        "stored": "float32" if float32 else "uint8 with slope",
        "largest_rounding_error": error,
    }


def _write_pictures(folder: Path, labels: np.ndarray, maps: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    described: dict[str, dict[str, Any]] = {
        "segmentation.png": {"meaning": "label values of the data set", "stored": str(labels.dtype)}
    }
    write_label_picture(folder / "segmentation.png", labels)
    for name, (array, value_range) in maps.items():
        write_map_picture(folder / f"{name}.tiff", unit(array))
        described[f"{name}.tiff"] = _describe(name, value_range, float32=array.dtype != np.uint8) | {
            "stored": "float32"
        }
    return described


def case_content(result: CaseResult, label_values: Sequence[int], files: Mapping[str, Any]) -> dict[str, Any]:
    """What `case.json` says about a case: the same for the same input, so no times."""
    decision = result.decision
    return {
        "case": result.image.name,
        "grid": list(result.image.geometry.shape),
        "spacing_mm": [round(s, 6) for s in result.image.geometry.spacing]
        if result.image.geometry.dims == 3
        else None,
        "classes": {name: int(value) for name, value in zip(result.classes, label_values, strict=True)},
        "scores": {kind.value: value for kind, value in result.scores.items()},
        "decision": None
        if decision is None
        else {
            "verdict": decision.verdict,
            "score": decision.score,
            "threshold": decision.threshold if np.isfinite(decision.threshold) else None,
            "reason": decision.reason,
        },
        "volumes": {name: {"ml": hard, "expected_ml": soft} for name, (hard, soft) in result.volumes.items()},
        "warnings": list(result.warnings),
        "files": dict(files),
    }
