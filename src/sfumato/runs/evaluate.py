"""`sfumato evaluate`: a fitted method on labelled cases, region by region, beside softmax entropy."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import Splits, open_dataset
from ..datasets.splits import PATIENT_PATTERN, SPLIT_NAMES
from ..errors import DatasetError
from ..metrics.bootstrap import bootstrap_mean
from ..metrics.cases import case_aurc, spearman
from ..metrics.regions import REGIONS
from ..storage import load_method, read_record
from .assess import AssessedCase, assess_cases, curves_of
from .files import csv_text, write_text
from .fit import rule_of
from .judge import case_score_kind, column
from .manifest import Manifest
from .plain import plain
from .pooled import pooled_metrics
from .text.model import refuse_sentences

VOXEL_METRICS = ("auroc", "auprc", "aurc", "eaurc", "augrc", "ece", "brier", "nll")


def evaluate_method(
    method_folder: Path,
    data: Path,
    split: str = "test",
    out: Path | None = None,
    splits: Splits | None = None,
    instances: bool = False,
    resample: bool = False,
    patient_pattern: str = PATIENT_PATTERN,
    seed: int = 0,
    progress: Callable[[str], None] = lambda name: None,
    allow_pickle: bool = False,
) -> dict[str, Any]:
    """Judge a fitted method on a split.

    Args:
        method_folder: written by `fit`, or a shipped pair.
        data: data set folder.
        split: `train`, `calibration` or `test`.
        out: gets `results.json`, `results.csv` and `manifest.json`; None writes nothing.
        splits: of the data set; those the method was fitted with by default.
        instances: label files number objects; the method's own choice when it was fitted so.
        resample: accept sheared or contradictory headers.
        patient_pattern: see `sfumato.datasets`.
        seed: of the bootstrap.
        progress: told the name of each finished case.
        allow_pickle: load a method whose network is a program, see `sfumato.storage.load_method`.

    Returns:
        Per region: pooled values, means over cases with 95 % intervals over patients, paired differences.

    Raises:
        ConfigError: a method whose network reads sentences, see `runs.text.evaluate`.
    """
    method, record = load_method(method_folder, allow_pickle), read_record(method_folder)
    instead = f"use `sfumato evaluate text_guided --model {method_folder} --data {data}`"
    refuse_sentences(method.segmenter, f"evaluate {method_folder}", instead)
    dataset = open_dataset(data, patient_pattern)
    chosen = splits or _recorded(record, dataset.cases) or dataset.splits()
    instances = instances or bool(record.get("options", {}).get("instances"))
    names = chosen[split]
    if not names:
        raise DatasetError(f"The {split} split is empty.")
    assessed = assess_cases(method, [dataset.cases[n] for n in names], instances, resample, progress)
    classes = method.segmenter.spec.classes  # type: ignore[attr-defined]
    kind = case_score_kind(method).value
    results = {
        "method": method.name,
        "split": split,
        "cases": len(assessed.cases),
        "patients": len({c.patient for c in assessed.cases}),
        "dice": _dice(assessed.cases, classes, seed),
        "regions": {region: _region(assessed.cases, region, seed) for region in REGIONS},
        "case_level": _case_level(assessed.cases, kind, record),
        "curves": curves_of(assessed.cases, f"{split} cases"),
        "problems": [*dataset.problems, *assessed.problems],
    }
    results = plain(results)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "results.json", json.dumps(results, indent=2) + "\n")
        write_text(out / "results.csv", _csv(assessed.cases, classes))
        manifest = Manifest("evaluate", {"split": split, "method": method.name}, seed)
        manifest.failures = results["problems"]
        manifest.write(out)
    return results


def _recorded(record: dict[str, Any], known: Any) -> Splits | None:
    content = record.get("splits")
    if not content or not all(set(content[n]) <= set(known) for n in SPLIT_NAMES):
        return None
    return Splits(*(tuple(content[n]) for n in SPLIT_NAMES))


def _dice(cases: Sequence[AssessedCase], classes: Sequence[str], seed: int) -> dict[str, Any]:
    patients = [c.patient for c in cases]
    table = np.array([c.method.content["dice"] for c in cases], dtype=float)
    per_class = {n: bootstrap_mean(table[:, i], patients, seed) for i, n in enumerate(classes[1:])}
    means = [1 - c.risk for c in cases]
    return {
        "mean": _interval(bootstrap_mean(means, patients, seed)),
        "per_class": {name: _interval(value) for name, value in per_class.items()},
        "relabelled_voxels": sum(c.method.content["relabelled"] for c in cases),
    }


def _interval(interval: Any) -> dict[str, Any]:
    return {
        "mean": interval.value,
        "low": interval.low,
        "high": interval.high,
        "cases": interval.count,
        "undefined": interval.undefined,
    }


def _region(cases: Sequence[AssessedCase], region: str, seed: int) -> dict[str, Any]:
    patients = [c.patient for c in cases]
    judged = {"method": [c.method for c in cases], "entropy": [c.entropy for c in cases]}
    pooled = {
        who: pooled_metrics(judgements, region, seed, resamples=0) for who, judgements in judged.items()
    }
    table: dict[str, Any] = {
        "pooled": {who: {m: v["value"] for m, v in numbers.items()} for who, numbers in pooled.items()},
        "pooled_bound": {who: {m: v["bound"] for m, v in numbers.items()} for who, numbers in pooled.items()},
        "per_case": {},
        "method_minus_entropy": {},
    }
    for metric in VOXEL_METRICS:
        series = {who: column(judgements, region, metric) for who, judgements in judged.items()}
        table["per_case"][metric] = {
            w: _interval(bootstrap_mean(v, patients, seed)) for w, v in series.items()
        }
        difference = bootstrap_mean(series["method"] - series["entropy"], patients, seed)
        table["method_minus_entropy"][metric] = {
            **_interval(difference),
            "excludes_zero": difference.excludes_zero,
            "ratio_of_means": float(np.nanmean(series["method"]) / np.nanmean(series["entropy"]))
            if np.isfinite(series["entropy"]).any()
            else float("nan"),
        }
    return table


def _case_level(cases: Sequence[AssessedCase], kind: str, record: dict[str, Any]) -> dict[str, Any]:
    scores, risks = np.array([c.score for c in cases]), np.array([c.risk for c in cases])
    result = {
        "score": kind,
        "mean_risk": float(risks.mean()),
        "spearman": spearman(scores, risks),
        "aurc": case_aurc(scores, risks),
        "aurc_at_random": float(risks.mean()),
    }
    rule = rule_of(record)
    if rule is not None:
        accepted = scores <= rule.threshold
        result["decision"] = {
            "threshold": rule.threshold,
            "target_risk": rule.target_risk,
            "coverage": float(accepted.mean()),
            "risk_of_accepted": float(risks[accepted].mean()) if accepted.any() else float("nan"),
            "risk_of_reviewed": float(risks[~accepted].mean()) if (~accepted).any() else float("nan"),
        }
    return result


def _csv(cases: Sequence[AssessedCase], classes: Sequence[str]) -> str:
    rows = []
    for case in cases:
        row: dict[str, Any] = {"case": case.name, "patient": case.patient, "risk": case.risk}
        row |= {f"dice {n}": d for n, d in zip(classes[1:], case.method.content["dice"], strict=True)}
        row |= {f"score {k}": v for k, v in case.method.content["scores"].items()}
        for region in REGIONS:
            for who, judgement in (("method", case.method), ("entropy", case.entropy)):
                numbers = judgement.content["regions"][region]
                row |= {f"{region} {who} {metric}": numbers[metric] for metric in VOXEL_METRICS}
        rows.append(row)
    return csv_text(rows)
