"""`sfumato evaluate text_guided`: what a sentence is worth, and what a network makes of wrong ones.

Sentences of most data sets were written from the mask. So each case is also segmented without its sentence, with a
paraphrase, with a typing error, and with the sentence of another case that contradicts its own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import Splits, TextTable, read_text_table
from ...datasets.splits import PATIENT_PATTERN, SPLIT_NAMES
from ...errors import ConfigError, DatasetError, InputError, SfumatoError
from ...metrics.bootstrap import bootstrap_difference, bootstrap_mean
from ...metrics.selective import selective
from ...pipeline.text_answer import SIDES
from ...storage import METHOD_FILE, SEGMENTER_FILE, read_json
from ..files import write_text
from ..manifest import Manifest
from ..plain import plain
from .arms import ARMS, TextCaseScores, judge_case, sentences_of
from .model import open_text_model
from .sentences import read_sentences


@dataclass(frozen=True)
class TextEvaluateOptions:
    """Which cases judge, and how.

    Args:
        split: `train`, `calibration` or `test`.
        level: of detail, where there are several.
        splits: JSON file of the splits; those the network was trained with by default.
        sides: whose left a sentence means on pictures, `image` or `patient`.
        patient_pattern: see `read_text_table`.
        seed: of contradictions, typing errors and the bootstrap.
        arms: which of `ARMS`; `none` is always among them, as the others are compared with it.
    """

    split: str = "test"
    level: str | None = None
    splits: Path | None = None
    sides: str = "image"
    patient_pattern: str = PATIENT_PATTERN
    seed: int = 0
    arms: tuple[str, ...] = ARMS

    def __post_init__(self) -> None:
        unknown = [arm for arm in self.arms if arm not in ARMS]
        if unknown or "none" not in self.arms:
            raise ConfigError(f"arms={self.arms}, expected none and others of {', '.join(ARMS)}.")
        if self.sides not in SIDES:
            raise ConfigError(f"sides={self.sides!r}, expected one of {', '.join(SIDES)}.")


def evaluate_texts(
    model: Path,
    data: Path,
    options: TextEvaluateOptions | None = None,
    out: Path | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Judge a text-guided network on labelled cases with sentences.

    Args:
        model: folder, see `open_text_model`.
        data: folder or table, see `read_text_table`.
        options: see `TextEvaluateOptions`.
        out: gets `results.json`, `results.csv` and `manifest.json`; None writes nothing.
        progress: told the name of each finished case.

    Returns:
        Per arm: Dice per image and pooled, what is lost against the sentence, and the quality of the doubt; how well
        contradictions are told from true sentences.

    Raises:
        InputError: not one case could be judged.
        DatasetError: an empty split, or none that is known.
    """
    options = options or TextEvaluateOptions()
    method, _ = open_text_model(model)
    table, training = read_text_table(data, options.patient_pattern), read_sentences(model)
    splits = table.dataset().splits(options.splits) if options.splits else recorded_splits(model, table)
    names = splits[options.split]
    if not names:
        raise DatasetError(f"The {options.split} split is empty, expected cases to judge by.")
    others = [text for name in names if (text := table.sentence(name, options.level))]
    sizes = training.sizes if training else {}
    done: list[TextCaseScores] = []
    problems: list[str] = []
    for number, name in enumerate(names):
        generator = np.random.default_rng((options.seed, number))
        try:
            every = sentences_of(table.sentence(name, options.level), others, generator)
            arms = {arm: text for arm, text in every.items() if arm in options.arms}
            done.append(judge_case(method, table, name, arms, sizes, options.sides))
        except SfumatoError as error:
            problems.append(str(error))
        progress(name)
    if not done:
        raise InputError("No case could be judged." + (f" The first: {problems[0]}" if problems else ""))
    results = plain(summarise(done, options.seed) | {"split": options.split, "level": options.level})
    results["problems"] = problems
    if out is not None:
        _write(
            out,
            results,
            done,
            {"model": model.name} | plain(asdict(options) | {"splits": None}),
            options.seed,
        )
    return results


def recorded_splits(model: Path, table: TextTable) -> Splits:
    """The splits that a network was trained with, from its record.

    Raises:
        DatasetError: none were written down, or they name cases that the table does not have.
    """
    file = next(model / f for f in (METHOD_FILE, SEGMENTER_FILE) if (model / f).exists())
    content = read_json(file).get("record", {}).get("splits")
    if not content or not all(set(content.get(name, ())) <= set(table.cases) for name in SPLIT_NAMES):
        raise DatasetError(
            f"{model}: no splits of these cases were written down, expected some to keep training cases apart; give "
            "--splits."
        )
    return Splits(*(tuple(content[name]) for name in SPLIT_NAMES))


def summarise(cases: Sequence[TextCaseScores], seed: int = 0) -> dict[str, Any]:
    """Numbers over cases with 95 % intervals over patients."""
    patients = [case.patient for case in cases]
    dice = _column(cases, ARMS[0], "dice")
    arms = {}
    for arm in ARMS:
        rows = [case.numbers[arm] for case in cases if arm in case.numbers]
        overlap = sum(row["overlap"] for row in rows)
        sizes = sum(row["predicted"] + row["true"] for row in rows)
        means = {n: bootstrap_mean(_column(cases, arm, n), patients, seed) for n in numbers_of(cases)}
        arms[arm] = {
            **{name: asdict(interval) for name, interval in means.items()},
            "lost": asdict(bootstrap_difference(dice, _column(cases, arm, "dice"), patients, seed)),
            "pooled_dice": 2 * overlap / sizes if sizes else float("nan"),
            **{
                f"pooled_{n}": _pooled_ece(cases, arm, r)
                for n, r in (("ece", "near"), ("ece_whole", "whole"))
            },
        }
    return {"cases": len(cases), "patients": len(set(patients)), "arms": arms, "contradiction": _told(cases)}


def numbers_of(cases: Sequence[TextCaseScores]) -> list[str]:
    """Names of what is averaged over cases, in the order of the table."""
    every = dict.fromkeys(name for case in cases for row in case.numbers.values() for name in row)
    return [name for name in every if name not in ("overlap", "predicted", "true")]


def _column(cases: Sequence[TextCaseScores], arm: str, number: str) -> np.ndarray:
    return np.array([case.numbers.get(arm, {}).get(number, float("nan")) for case in cases], dtype=float)


def _pooled_ece(cases: Sequence[TextCaseScores], arm: str, region: str) -> float:
    states = [case.calibration[arm][region] for case in cases if arm in case.calibration]
    return reduce(add, states).ece if states else float("nan")


def _told(cases: Sequence[TextCaseScores]) -> dict[str, float]:
    """How well a contradiction is told from a true sentence: by its score, and by a warning."""
    pairs = [(arm, found) for case in cases for arm, found in case.contradictions.items()]
    wrong = np.array([arm == "contradiction" for arm, _ in pairs], dtype=bool)
    scores = np.array([found.score for _, found in pairs], dtype=float)
    warned = np.array([bool(found.warnings) for _, found in pairs], dtype=bool)
    share = lambda chosen: float(warned[chosen].mean()) if chosen.any() else float("nan")
    return {
        "auroc": selective(scores, wrong).auroc if len(pairs) else float("nan"),
        "warned_of_contradictions": share(wrong),
        "warned_of_true_sentences": share(~wrong),
    }


def _write(
    out: Path, results: Mapping[str, Any], cases: Sequence[TextCaseScores], config: dict[str, Any], seed: int
) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    columns = numbers_of(cases)
    writer.writerow(["case", "patient", "arm", "sentence", *columns])
    for case in cases:
        for arm, numbers in case.numbers.items():
            told = [numbers.get(key, float("nan")) for key in columns]
            writer.writerow([case.name, case.patient, arm, case.sentences[arm] or "", *told])
    write_text(out / "results.csv", buffer.getvalue())
    manifest = Manifest("evaluate text_guided", config, seed)
    manifest.failures = list(results["problems"])
    manifest.write(out)
