"""All that a comparison found, as plain types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..judge import Judgement, case_score_kind
from ..plain import plain
from .contenders import Contender
from .summary import summarise

CLEAN = "clean"
"""The condition of images as they are; it comes first."""


def gather_results(
    head: Mapping[str, Any],
    contenders: Sequence[Contender],
    classes: Sequence[str],
    judged: Mapping[str, Mapping[str, list[Judgement]]],
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """What `results.json` holds.

    Args:
        head: said first: segmenter, data, split, problems.
        contenders: the methods.
        classes: names, background first.
        judged: condition -> method -> judgements.
        seed: of the bootstrap.
        resamples: of patients.
    """
    first = judged[CLEAN][contenders[0].label]
    return plain(
        {
            **head,
            "cases": len(first),
            "patients": len({j.content["patient"] for j in first}),
            "resamples": resamples,
            "seed": seed,
            "methods": {c.label: _about(c, judged[CLEAN][c.label]) for c in contenders},
            "conditions": {
                name: summarise(methods, classes, seed, resamples, full=name == CLEAN)
                for name, methods in judged.items()
            },
        }
    )


def _about(contender: Contender, judgements: Sequence[Judgement]) -> dict[str, Any]:
    return {
        "method": contender.method.name,
        "title": contender.method.spec.title,
        "passes": contender.passes,
        "case_score": case_score_kind(contender.method).value,
        "fitted_on": len(contender.record.get("fitted_on", [])),
        "calibrated_on": len(contender.record.get("calibrated_on", [])),
        "cost": _mean_cost(judgements),
    }


def _mean_cost(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Per case: seconds of shared pass and method together, the method's own, and working memory at most."""
    parts = [j.content["cost"] for j in judgements]
    peaks = [[p[who]["peak"] for who in ("segmenter", "method")] for p in parts]
    known = [max(pair) for pair in peaks if None not in pair]
    return {
        "cpu_seconds": float(np.mean([p["segmenter"]["cpu"] + p["method"]["cpu"] for p in parts])),
        "wall_seconds": float(np.mean([p["segmenter"]["wall"] + p["method"]["wall"] for p in parts])),
        "own_cpu_seconds": float(np.mean([p["method"]["cpu"] for p in parts])),
        "peak_mib": max(known) / 2**20 if known else float("nan"),
    }
