"""`sfumato demo`: write the public images, run the shipped pairs on them, and judge the result."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SfumatoError
from ..imaging import read_image, suffix_of, write_label_picture, write_nifti
from ..metrics.overlap import dice_per_class
from ..metrics.regions import region_masks
from ..metrics.selective import selective
from ..pipeline.case import PredictOptions, predict_image
from ..registry import get_method
from ..runs.files import locked
from ..runs.predict import CASE_FILE, predict_files
from ..storage import load_method, read_json
from ..types import Kind
from ..weights import find_method
from .data import DemoCase, hippocampi, nuclei
from .table import table_lines

OPTIONS = PredictOptions(float32=True)
"""Maps as float32, so that rounding decides no comparison."""


@dataclass(frozen=True)
class DemoSet:
    """Cases, and the method to run on them.

    Args:
        name: of the folders of its inputs and results.
        load: reads the cases.
        method: name of a shipped pair, or a folder of `sfumato fit`.
    """

    name: str
    load: Callable[[], Sequence[DemoCase]]
    method: str | Path


SETS = (DemoSet("nuclei", lambda: (nuclei(),), "nuclei"), DemoSet("hippocampus", hippocampi, "hippocampus"))


def run_demo(out: Path, say: Callable[[str], None], sets: Sequence[DemoSet] = SETS) -> dict[str, Any]:
    """Predict public labelled images with the shipped pairs and compare with their labels.

    Args:
        out: gets `inputs/` (images and masks, laid out as a data set) and a folder of results per pair.
        say: receives lines for people: a table where standard error is a terminal, plain lines elsewhere.
        sets: what to run.

    Returns:
        `cases` (Dice, AUROC of errors, decision, report of each), `pages` to open and `seconds`; what is
        undefined is None.

    Raises:
        MissingExtraError: a package that carries an image is not installed.
        UnknownNameError: a shipped pair is not there.
        SfumatoError: a case could not be predicted.
    """
    start = time.perf_counter()
    rows: list[dict[str, Any]] = []
    pages: list[str] = []
    for entry in sets:
        folder = find_method(entry.method)
        cases = entry.load()
        say(f"{entry.name}: {cases[0].source}")
        files = write_inputs(cases, out / "inputs" / entry.name)
        summary = predict_files(folder, files, out / entry.name, OPTIONS)
        if summary.failures:
            raise SfumatoError(f"The demo failed: {summary.failures[0]}")
        rows += [{"set": entry.name} | row for row in _judge_all(folder, cases, files, out / entry.name)]
        pages.append(str(summary.index))
    result = {"cases": rows, "pages": pages, "seconds": round(time.perf_counter() - start, 1)}
    for line in describe(result, sys.stderr.isatty()):
        say(line)
    return result


def write_inputs(cases: Sequence[DemoCase], folder: Path) -> list[Path]:
    """Write `images/` and `masks/` of equal names, pictures as PNG, volumes as NIfTI; returns the images."""
    written = []
    with locked(folder):
        for case in cases:
            suffix = ".png" if case.image.geometry.dims == 2 else ".nii.gz"
            for kind, array in (("images", case.image.array[0]), ("masks", case.label.array)):
                path = folder / kind / f"{case.image.name}{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                if suffix == ".png":
                    write_label_picture(path, array)
                else:
                    write_nifti(path, array, case.image.geometry)
            written.append(folder / "images" / f"{case.image.name}{suffix}")
    return written


def _judge_all(
    method_folder: Path, cases: Sequence[DemoCase], files: Sequence[Path], results: Path
) -> list[dict[str, Any]]:
    entropy = get_method("softmax")
    baseline = entropy.build(entropy.config(), load_method(method_folder).segmenter)
    rows = []
    for case, file in zip(cases, files, strict=True):
        folder = results / case.image.name
        alone = predict_image(baseline, read_image(file, case.image.name), options=OPTIONS)
        content = read_json(folder / CASE_FILE)
        row = judge(
            read_map(folder, "segmentation"),
            read_map(folder, Kind.ERROR.value),
            alone.maps[Kind.PREDICTIVE],
            case,
        )
        decision = content["decision"] or {"verdict": "none", "reason": "The shipped pair has no rule."}
        row |= {
            "verdict": decision["verdict"],
            "reason": decision["reason"],
            "report": str(folder / "report.html"),
        }
        rows.append({"case": case.image.name, "source": case.source} | row)
    return rows


def read_map(folder: Path, name: str) -> np.ndarray:
    """A map or mask of a finished case, (*grid), whatever its file is called after the name."""
    return read_image(next(p for p in sorted(folder.glob(f"{name}.*")) if suffix_of(p))).array[0]


def judge(segmentation: np.ndarray, error: np.ndarray, entropy: np.ndarray, case: DemoCase) -> dict[str, Any]:
    """Foreground Dice, and how well two maps rank the errors within 5 voxels of the foreground.

    All foreground classes count as one, as the labels know no others: a voxel is wrong where prediction and
    label disagree on foreground. Numbers that are undefined (no error, say) are None.

    Args:
        segmentation: label values (*grid), 0 is background.
        error: our probability of being wrong (*grid).
        entropy: of the segmenter's own softmax (*grid).
        case: holds the label.
    """
    predicted, true = (segmentation > 0).astype(np.int64), (case.label.array > 0).astype(np.int64)
    near = region_masks(predicted, true)["near"]
    wrong = (predicted != true)[near]
    ours, theirs = selective(error[near], wrong), selective(entropy[near], wrong)
    numbers = {
        "dice": float(dice_per_class(predicted, true, 2)[0]),
        "error_rate_near": ours.error_rate,
        "auroc_error_map": ours.auroc,
        "auroc_entropy": theirs.auroc,
    }
    return {k: v if math.isfinite(v) else None for k, v in numbers.items()}


COLUMNS = {
    "case": "case",
    "dice": "Dice",
    "error_rate_near": "errors near",
    "auroc_error_map": "AUROC error map",
    "auroc_entropy": "AUROC entropy",
    "verdict": "decision",
}
LEGEND = (
    "Dice of the foreground; errors near: share of wrong voxels within 5 voxels of the foreground;",
    "AUROC: how well a map ranks them there (0.5 is chance), our error map against softmax entropy.",
    "Three images show that it works, not how well: see the cards of the shipped pairs for measured quality.",
)


def describe(result: dict[str, Any], terminal: bool) -> list[str]:
    """The result as lines: a drawn table for a terminal, else one plain line per case."""
    lines = table_lines(COLUMNS, result["cases"], terminal, "sfumato demo")
    reasons = [f"{row['case']}: {row['verdict']}. {row['reason']}" for row in result["cases"]]
    pages = [f"open {page}" for page in result["pages"]]
    return [*lines, *LEGEND, *reasons, f"{result['seconds']} s in all", *pages]
