"""The files of one prompted image: masks, probability, doubt, alternatives, and their description."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from ...imaging import write_label_picture, write_map_picture, write_nifti
from ...pipeline.prompted_case import PromptedCase
from ...pipeline.prompted_plane import Click, ObjectAnswer
from ...pipeline.prompted_volume import FollowedObject
from ...pipeline.result import unit
from ...report.sam_wording import advice

MAPS = {
    "probability": "probability of the offered mask, the largest of all objects'",
    "entropy": "entropy of the mixture of the three masks in bits, the largest of all objects'",
}
ALTERNATIVES = "alternatives"


def write_masks(folder: Path, case: PromptedCase) -> dict[str, dict[str, str]]:
    """Write everything that lies on a grid and return what each file holds.

    Volumes: `.nii.gz` with the image's geometry, maps as uint8 with slope. Pictures: masks as `.png`, maps as float32
    `.tiff`. The three masks of an object are in `alternatives/`, numbered as the object is.
    """
    described = {}
    geometry, maps = case.image.geometry, {"probability": case.probability, "entropy": case.entropy}
    labels = case.to_grid(case.labels)
    if case.volume:
        write_nifti(folder / "segmentation.nii.gz", labels, geometry)
        described["segmentation.nii.gz"] = {"meaning": "number of the object, 0 none", "stored": "uint16"}
        for name, stack in maps.items():
            write_nifti(folder / f"{name}.nii.gz", case.to_grid(stack), geometry, (0.0, 1.0))
            described[f"{name}.nii.gz"] = {"meaning": MAPS[name], "stored": "uint8 with slope"}
    else:
        write_label_picture(folder / "segmentation.png", labels)
        described["segmentation.png"] = {"meaning": "number of the object, 0 none", "stored": "png"}
        for name, stack in maps.items():
            write_map_picture(folder / f"{name}.tiff", unit(case.to_grid(stack)))
            described[f"{name}.tiff"] = {"meaning": MAPS[name], "stored": "float32"}
    (folder / ALTERNATIVES).mkdir()
    for number, found in enumerate(case.objects, start=1):
        described |= _write_alternatives(folder, case, number, found)
    return described


def _write_alternatives(
    folder: Path, case: PromptedCase, number: int, found: FollowedObject
) -> dict[str, dict[str, str]]:
    described = {}
    for j in range(3):
        stack = np.zeros(case.labels.shape, np.uint8)
        for index, answer in found.answers.items():
            stack[index] = answer.masks[j]
        meaning = f"mask {j + 1} of object {number}" + (", on the slices pointed at" if case.volume else "")
        name = f"{ALTERNATIVES}/{number}_{j + 1}{'.nii.gz' if case.volume else '.png'}"
        if case.volume:
            write_nifti(folder / name, case.to_grid(stack), case.image.geometry)
        else:
            write_label_picture(folder / name, case.to_grid(stack))
        described[name] = {"meaning": meaning, "stored": "uint8"}
    return described


def case_content(case: PromptedCase, files: dict[str, Any]) -> dict[str, Any]:
    """What `case.json` says: the same for the same input, so no times. Numbers that nobody knows are null."""
    return {
        "case": case.image.name,
        "grid": list(case.image.geometry.shape),
        "slice_axis": case.slices.axis,
        "calibrated": case.calibrated,
        "objects": [_object(case, number, found) for number, found in enumerate(case.objects, start=1)],
        "files": files,
    }


def _object(case: PromptedCase, number: int, found: FollowedObject) -> dict[str, Any]:
    worst = case.worst(found)
    content = {"number": number, "name": found.name, **_answer(case, worst)}
    if not case.volume:
        return content
    estimate = case.estimate(found)
    told = case.calibrated
    slices = [
        {
            "slice": index,
            "pixels": int(kept.mask.sum()),
            "expected_iou": _known(kept.expected_iou) if told else None,
            "interval": [kept.low, kept.high] if told else None,
        }
        for index, kept in found.slices.items()
    ]
    return content | {
        "slice": worst.prompt.plane,
        "answers": [{"slice": i, **_answer(case, a)} for i, a in sorted(found.answers.items())],
        "slices": slices,
        "ends": found.ends,
        "volume": {
            "ml": sum(s["pixels"] for s in slices) * case.image.geometry.voxel_ml,
            "expected_iou": _known(estimate.iou) if told else None,
            "expected_dice": _known(estimate.dice) if told else None,
        },
    }


def _answer(case: PromptedCase, answer: ObjectAnswer) -> dict[str, Any]:
    told, kept = case.calibrated, answer.kept
    return {
        "sentence": advice(answer, told, case.larger),
        "prompt": answer.kind,
        "expected_iou": _known(kept.expected_iou) if told else None,
        "interval": [kept.low, kept.high] if told else None,
        "chance_of_good": _known(answer.above),
        "own_estimate": answer.estimates[answer.own],
        "offered": answer.chosen + 1,
        "ranked_first_by_network": answer.own + 1,
        "gaps": {
            "model": _known(answer.model_gap) if case.larger else None,
            "prompt": _known(answer.prompt_gap),
            "task": _known(answer.task_gap),
        },
        "larger_network": case.larger,
        "click": _click(answer.click),
        "masks": [
            {
                "mask": j + 1,
                "expected_iou": _known(answer.expected_iou[j]) if told else None,
                "own_estimate": answer.estimates[j],
                "pixels": int(answer.masks[j].sum()),
                "worth_showing": answer.shown[j],
            }
            for j in range(len(answer.masks))
        ],
    }


def _click(click: Click | None) -> dict[str, Any] | None:
    if click is None:
        return None
    sign = "+" if click.sign else "-"
    return {"row": click.row, "column": click.column, "sign": sign, "expected_gain": click.gain}


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
