"""One labelled case segmented by its sentence and by what may stand in the sentence's place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...datasets import TextTable
from ...datasets.binary_mask import read_binary_mask
from ...datasets.text_variants import claims, contradiction, misspelt, paraphrases
from ...errors import InputError
from ...imaging import read_image
from ...interfaces import Method
from ...methods.text_guided.contradiction import Contradiction, find_contradiction
from ...metrics.calibration_state import CalibrationState
from ...metrics.regions import region_masks
from ...metrics.selective import selective
from ...pipeline.case import PredictOptions, predict_image
from ...pipeline.result import CaseResult
from ...pipeline.text_answer import is_mirrored, upright
from ...types import TextPrompt
from ..judge import Judgement, Truth, judge

ARMS = ("sentence", "none", "paraphrase", "misspelt", "contradiction")
"""What stands in a case's place of the sentence; one that the case does not allow is left out for it."""
OPTIONS = PredictOptions(float32=True)


@dataclass(frozen=True)
class TextCaseScores:
    """One case by arm.

    Args:
        name: of the case.
        patient: it belongs to.
        sentences: by arm; None without one.
        numbers: by arm: `dice` and `iou` (1 where nothing was to be found and nothing was), `auroc` of what the method
            ranks by and `auroc_KIND` of every map of doubt near the object, `ece` there and `ece_whole` over the image,
            and `overlap`, `predicted`, `true` voxels, for the pooled Dice.
        calibration: by arm and region (`near`, `whole`), probability against label.
        contradictions: found with its own sentence and with the contradicting one.
    """

    name: str
    patient: str
    sentences: Mapping[str, str | None]
    numbers: Mapping[str, Mapping[str, float]]
    calibration: Mapping[str, Mapping[str, CalibrationState]]
    contradictions: Mapping[str, Contradiction]


def sentences_of(
    sentence: str | None, others: Sequence[str], generator: np.random.Generator
) -> dict[str, str | None]:
    """By arm what is said of a case; of a case without a sentence only that."""
    if sentence is None:
        return {"none": None}
    arms: dict[str, str | None] = {"sentence": sentence, "none": None}
    same = paraphrases(sentence)
    if same:
        arms["paraphrase"] = same[-1]
    typed = misspelt(sentence, generator)
    if typed != sentence:
        arms["misspelt"] = typed
    try:
        arms["contradiction"] = contradiction(sentence, others, generator)
    except InputError:  # no other sentence contradicts it, so the arm has one case less
        return arms
    return arms


def judge_case(
    method: Method,
    table: TextTable,
    name: str,
    arms: Mapping[str, str | None],
    sizes: Mapping[str, tuple[float, float]],
    sides: str = "image",
) -> TextCaseScores:
    """Segment a case in every arm and judge it.

    Args:
        method: with a segmenter that reads sentences.
        table: that the case is in.
        name: of the case.
        arms: from `sentences_of`.
        sizes: see `find_contradiction`.
        sides: see `TextOptions`.

    Raises:
        InputError: an image or a mask that cannot be used.
    """
    case = table.cases[name].case
    if case.label is None:
        raise InputError(f"{name}: no mask, expected one to judge by.")
    image, label = read_image(case.images, name), read_binary_mask(case.label, name).array
    truth = Truth(name, case.patient, label)
    found = {
        arm: predict_image(method, image, None, OPTIONS, prompt=None if text is None else TextPrompt((text,)))
        for arm, text in arms.items()
    }
    judged = {arm: judge(method, result, truth, {}) for arm, result in found.items()}
    numbers = {arm: _numbers(judged[arm], result, truth) for arm, result in found.items()}
    calibration = {arm: {r: j.calibration[r] for r in ("near", "whole")} for arm, j in judged.items()}
    masks = {arm: upright(result.segmentation > 0, image.geometry) for arm, result in found.items()}
    mirrored = is_mirrored(image.geometry, sides)
    contradictions = {
        arm: find_contradiction(claims(text), masks[arm], masks["none"], mirrored, sizes)
        for arm, text in arms.items()
        if text is not None and arm in ("sentence", "contradiction")
    }
    return TextCaseScores(name, case.patient, arms, numbers, calibration, contradictions)


def _numbers(judgement: Judgement, result: CaseResult, truth: Truth) -> dict[str, float]:
    predicted, true = result.segmentation > 0, truth.label > 0
    overlap, sizes = int((predicted & true).sum()), int(predicted.sum() + true.sum())
    near = region_masks(result.segmentation, truth.label, regions=("near",))["near"]
    wrong = (result.segmentation != truth.label)[near]
    regions = judgement.content["regions"]
    return {
        "dice": 2 * overlap / sizes if sizes else 1.0,
        "iou": overlap / (sizes - overlap) if sizes else 1.0,
        "auroc": regions["near"]["auroc"],
        **{f"auroc_{kind.value}": selective(doubt[near], wrong).auroc for kind, doubt in result.maps.items()},
        "ece": regions["near"]["ece"],
        "ece_whole": regions["whole"]["ece"],
        "overlap": overlap,
        "predicted": int(predicted.sum()),
        "true": int(true.sum()),
    }
