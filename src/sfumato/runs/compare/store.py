"""Judgements on disk: one compressed file per method and case, there as a whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...metrics.calibration_state import CalibrationState
from ...metrics.filtered import FilteredState
from ...metrics.histogram import ScoreHistogram
from ..judge import Judgement

STATES = ("histograms", "calibration", "errors")
CALIBRATION_ARRAYS = ("table", "doubts", "per_class", "sums")


def save_judgement(path: Path, judgement: Judgement, identity: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename.

    Args:
        path: of the file.
        judgement: to keep.
        identity: of everything it depends on; read back, it must be the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"filtered": judgement.filtered.counts}
    for group in STATES:
        for region, state in getattr(judgement, group).items():
            arrays |= {f"{group}/{region}/{name}": array for name, array in _arrays(state).items()}
    text = json.dumps({"identity": identity, "content": judgement.content}, sort_keys=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, text=np.array(text), **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


def load_judgement(path: Path, identity: Mapping[str, Any]) -> Judgement | None:
    """What `save_judgement` wrote; None where there is nothing, something of another run, or a damaged file."""
    try:
        # numpy leaves a file open that is no archive, so it is opened here.
        with path.open("rb") as file, np.load(file) as stored:
            said = json.loads(str(stored["text"]))
            if said["identity"] != json.loads(json.dumps(identity)):
                return None
            arrays = {name: stored[name] for name in stored.files if name != "text"}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    groups: dict[str, dict[str, Any]] = {group: {} for group in STATES}
    for group in STATES:
        regions = dict.fromkeys(name.split("/")[1] for name in arrays if name.startswith(f"{group}/"))
        for region in regions:
            mark = f"{group}/{region}/"
            own = {name.removeprefix(mark): a for name, a in arrays.items() if name.startswith(mark)}
            groups[group][region] = _state(own)
    filtered = FilteredState(len(arrays["filtered"]))
    filtered.counts = arrays["filtered"]
    return Judgement(said["content"], **groups, filtered=filtered)


def _arrays(state: ScoreHistogram | CalibrationState) -> dict[str, np.ndarray]:
    if isinstance(state, ScoreHistogram):
        return {"counts": state.counts}
    arrays = {name: getattr(state, name) for name in CALIBRATION_ARRAYS}
    return arrays | {"count": np.array(state.count)}


def _state(arrays: Mapping[str, np.ndarray]) -> ScoreHistogram | CalibrationState:
    if "counts" in arrays:
        counts = arrays["counts"]
        return ScoreHistogram(int(counts.shape[1]).bit_length() - 1, counts)
    state = CalibrationState(len(arrays["per_class"]), len(arrays["table"]))
    for name in CALIBRATION_ARRAYS:
        setattr(state, name, arrays[name])
    state.count = int(arrays["count"])
    return state
