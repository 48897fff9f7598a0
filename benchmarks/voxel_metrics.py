"""Ranking and calibration metrics of voxels, beside scikit-learn and torchmetrics.

Ours come twice: exact (AUROC, AUPRC, AURC, E-AURC and AUGRC from one sort) and streamed (the same with proven bounds,
and ECE, from one pass into 2^20 bins). Rivals compute one number per call. At 1e8 voxels they take minutes each, so
beyond `FEW` voxels every side is called once without a rehearsal, ours three times; each row says how often.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfumato.metrics import CalibrationState, ScoreHistogram, accumulate, selective

from .measure import machine, peak_memory

COUNT = 10_000_000
FEW = 2_000_000
ERROR_RATE = 0.01
BITS = 20
BLOCK = 1 << 20


@dataclass(frozen=True)
class Voxels:
    """Vectors of one length: float32 scores and confidences, boolean errors."""

    scores: np.ndarray
    errors: np.ndarray
    confidences: np.ndarray


def make_voxels(count: int, seed: int = 0) -> Voxels:
    """Uniform scores, pushed up where there is an error; confidences of which some nine in ten are above 14/15."""
    random = np.random.default_rng(seed)
    scores = random.random(count, dtype=np.float32)
    errors, confidences = np.empty(count, bool), np.empty(count, np.float32)
    for start in range(0, count, BLOCK):
        part = slice(start, min(start + BLOCK, count))
        errors[part] = random.random(part.stop - start, dtype=np.float32) < ERROR_RATE
        np.sqrt(scores[part], out=scores[part], where=errors[part])
        confidences[part] = 1 - 0.5 * random.random(part.stop - start, dtype=np.float32) ** 20
    return Voxels(scores, errors, confidences)


def reference_ece(voxels: Voxels, bins: int = 15) -> float:
    """ECE by its definition, summed in float64."""
    index = np.minimum((voxels.confidences.astype(np.float64) * bins).astype(np.int64), bins - 1)
    sure = np.bincount(index, weights=voxels.confidences, minlength=bins)
    right = np.bincount(index, weights=~voxels.errors, minlength=bins)
    return float(np.abs(right - sure).sum() / len(index))


def timed_side(
    name: str, function: Callable[[], dict[str, float]], calls: int, rehearse: bool
) -> dict[str, Any]:
    """A row: CPU and wall seconds over `calls` calls, and what the last one gave."""
    if rehearse:
        function()
    cpu, wall, found = [], [], {}
    for _ in range(calls):
        start_cpu, start = time.process_time(), time.perf_counter()
        found = function()
        cpu.append(time.process_time() - start_cpu)
        wall.append(time.perf_counter() - start)
    times = {"cpu_min": min(cpu), "cpu_median": statistics.median(cpu), "wall_min": min(wall)}
    return {"side": name, "calls": calls, **times, **found}


def exact(voxels: Voxels, backend: str) -> dict[str, float]:
    """Five numbers from one sort."""
    result = selective(voxels.scores, voxels.errors, backend)
    return {n: getattr(result, n) for n in ("auroc", "auprc", "aurc", "augrc")}


def streamed(voxels: Voxels, backend: str) -> dict[str, float]:
    """The same with bounds, and ECE, from one pass."""
    histogram, state = ScoreHistogram(BITS), CalibrationState()
    accumulate(histogram, state, voxels.scores, voxels.errors, voxels.confidences, backend)
    result = histogram.selective()
    arrays = histogram.counts, state.table, state.doubts, state.per_class, state.sums
    return {
        **{n: getattr(result, n).value for n in ("auroc", "auprc", "aurc", "augrc")},
        "auroc_bound": result.auroc.bound,
        "aurc_bound": result.aurc.bound,
        "ece": state.ece,
        "state_mib": sum(a.nbytes for a in arrays) / 2**20,
    }


def rivals(voxels: Voxels) -> dict[str, Callable[[], dict[str, float]]]:
    """One number per call each."""
    import torch
    from sklearn.metrics import roc_auc_score

    torchmetrics = import_torchmetrics()
    scores, confidences = torch.from_numpy(voxels.scores), torch.from_numpy(voxels.confidences)
    # torchmetrics wants whole numbers as labels; the copies are made before the clock runs.
    wrong = torch.from_numpy(voxels.errors.astype(np.int64))

    def calibration() -> dict[str, float]:
        metric = torchmetrics.classification.BinaryCalibrationError(n_bins=15, norm="l1", validate_args=False)
        metric.update(confidences, 1 - wrong)
        return {"ece": float(metric.compute())}

    def area() -> dict[str, float]:
        found = torchmetrics.functional.classification.binary_auroc(scores, wrong, validate_args=False)
        return {"auroc": float(found)}

    return {
        "scikit-learn roc_auc_score": lambda: {"auroc": float(roc_auc_score(voxels.errors, voxels.scores))},
        "torchmetrics binary_auroc": area,
        "torchmetrics BinaryCalibrationError": calibration,
    }


def import_torchmetrics() -> Any:
    """torchmetrics, told that there is no torchvision where that one does not fit the installed torch."""
    try:
        import torchvision  # noqa: F401
    except Exception:
        from lightning_utilities.core.imports import RequirementCache

        usual = RequirementCache.__bool__
        RequirementCache.__bool__ = lambda self: "torchvision" not in str(self.requirement) and usual(self)
    import torchmetrics

    return torchmetrics


def call_exact(count: int) -> Callable[[], dict[str, float]]:
    """A compiled exact call on fresh voxels."""
    exact(make_voxels(100_000), "numba")
    voxels = make_voxels(count)
    return lambda: exact(voxels, "numba")


def call_streamed(count: int) -> Callable[[], dict[str, float]]:
    """A compiled streamed call on fresh voxels."""
    streamed(make_voxels(100_000), "numba")
    voxels = make_voxels(count)
    return lambda: streamed(voxels, "numba")


def run(repeats: int = 5, n: float = COUNT, peaks: bool = True) -> dict[str, Any]:
    """Measure rivals and ours on the same voxels, all in this run."""
    import torch

    torch.set_num_threads(1)
    count, small = int(n), n <= FEW
    for compile_now in (exact, streamed):
        compile_now(make_voxels(100_000), "numba")
    voxels = make_voxels(count)
    own = {
        "ours, exact": lambda: exact(voxels, "numba"),
        "ours, exact, numpy": lambda: exact(voxels, "numpy"),
        "ours, streamed": lambda: streamed(voxels, "numba"),
        "ours, streamed, numpy": lambda: streamed(voxels, "numpy"),
    }
    calls = max(5, repeats) if small else 3
    rows = [timed_side(name, call, calls, small) for name, call in own.items()]
    rows += [timed_side(name, call, calls if small else 1, small) for name, call in rivals(voxels).items()]
    if peaks:
        # Each in a process of its own that has compiled and made its voxels before.
        for row, prepare in ((rows[0], call_exact), (rows[2], call_streamed)):
            row["peak_mib"] = peak_memory(prepare, count) / 2**20
    truth = reference_ece(voxels)
    return {
        "name": "voxel_metrics",
        "machine": machine(),
        "size": [count],
        "ece_reference": truth,
        "fullest_bin": int((voxels.confidences >= 14 / 15).sum()),
        "rows": rows,
        "ratios": compare(rows, truth),
    }


def compare(rows: list[dict[str, Any]], truth: float) -> dict[str, float]:
    """Ratios of CPU seconds to scikit-learn's, and errors; torchmetrics' error goes into its row."""
    sides = {row["side"]: row for row in rows}
    theirs, slow = sides["torchmetrics BinaryCalibrationError"], sides["scikit-learn roc_auc_score"]
    theirs["ece_error"] = abs(theirs["ece"] - truth)
    ratio = {side: row["cpu_min"] / slow["cpu_min"] for side, row in sides.items()}
    return {
        "exact_vs_sklearn": ratio["ours, exact"],
        "exact_numpy_vs_sklearn": ratio["ours, exact, numpy"],
        "streaming_vs_sklearn": ratio["ours, streamed"],
        "streaming_numpy_vs_sklearn": ratio["ours, streamed, numpy"],
        "auroc_difference": abs(sides["ours, exact"]["auroc"] - slow["auroc"]),
        "ece_error": abs(sides["ours, streamed"]["ece"] - truth),
    }
