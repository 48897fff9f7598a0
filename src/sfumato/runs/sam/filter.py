"""`sfumato sam filter`: pseudo-labels that are expected to be good enough to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import ConfigError
from ...imaging import read_image, write_label_picture, write_nifti
from ...methods.sam_gaps.pseudo_labels import keep, loss_weights
from ...pipeline.slices import slice_axis
from ...report.sam import write_mask_list
from ..files import csv_text, locked, write_text
from ..manifest import Manifest
from .heads import Heads
from .judged import JudgedCase
from .order import facts, flattened, listed_mask, row_of
from .pool import PoolOptions, judge_pool

SHOWN = 100
"""Kept and left-out masks on the page, of each those nearest to the threshold."""


@dataclass(frozen=True)
class FilterRule:
    """Which masks are kept.

    Args:
        mean_iou: as many as possible are kept whose mean expected IoU is at least this; None where a threshold is.
        threshold: masks with at least this quality are kept; None where a mean is wanted.
        by: `expected`, or `low`, the lower end of the interval, where one bad label costs more than several good ones.
    """

    mean_iou: float | None = None
    threshold: float | None = None
    by: str = "expected"

    def __post_init__(self) -> None:
        if (self.mean_iou is None) == (self.threshold is None):
            raise ConfigError("Both or neither of a mean IoU and a threshold, expected one of them.")
        if self.by not in ("expected", "low"):
            raise ConfigError(f"--by {self.by!r}, expected expected or low.")
        for value in (self.mean_iou, self.threshold):
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"A wanted IoU of {value}, expected a number from 0 to 1.")


@dataclass(frozen=True)
class FilterSummary:
    """What a filter kept.

    Args:
        kept: masks.
        total: masks there were.
        threshold: lowest quality that is kept.
        expected_iou: mean of the kept masks; NaN where none is.
        agreement: mean IoU of the kept masks with the masks that prompts were drawn from; None without such.
        failures: one sentence per case that could not be used.
        table: the CSV file.
        page: to look at.
    """

    kept: int
    total: int
    threshold: float
    expected_iou: float
    agreement: float | None
    failures: tuple[str, ...]
    table: Path
    page: Path


def expected_threshold(quality: Sequence[float], wanted: float) -> float:
    """The lowest threshold at which the mean of what is kept is at least `wanted`; infinity where none does.

    Example:
        >>> expected_threshold([0.9, 0.8, 0.4], 0.85), expected_threshold([0.5], 0.9)
        (0.8, inf)
    """
    ordered = np.sort(np.asarray(quality, dtype=float))[::-1]
    mean = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    last = np.append(ordered[1:] < ordered[:-1], True)  # equal masks are kept together or not at all
    enough = np.flatnonzero((mean >= wanted - 1e-12) & last)
    return float(ordered[enough[-1]]) if len(enough) else float("inf")


def filter_masks(
    data: Path,
    heads: Heads,
    out: Path,
    rule: FilterRule,
    options: PoolOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
) -> FilterSummary:
    """Write `masks/` with the kept masks, `filter.csv` with every decision and a weight for a loss, and a page.

    Args:
        data: a data set folder; with a prompts file, a folder of images will do.
        heads: with their network.
        out: for the results; a killed run is finished there.
        rule: which masks are kept.
        options: which objects, from which prompts.
        note: told each case's name and state.

    Raises:
        DatasetError: no data set, or nothing to judge.
    """
    with locked(out):
        judged, failures = judge_pool(data, heads, out, options, note)
        masks, thumbnails = flattened(judged)
        told = [mask.low if rule.by == "low" else mask.expected_iou for mask in masks]
        threshold = _threshold(told, rule)
        quality = torch.tensor(told, dtype=torch.float64)
        kept, weights = keep(quality, threshold).tolist(), loss_weights(quality, threshold).tolist()
        _write_masks(out / "masks", judged, kept, (options or PoolOptions()).resample)
        rows = [
            {**row_of(mask), "kept": int(k), "weight": round(w, 4)}
            for mask, k, w in zip(masks, kept, weights, strict=True)
        ]
        write_text(out / "filter.csv", csv_text(rows))
        near = sorted(range(len(masks)), key=lambda i: abs(told[i] - threshold))[: 2 * SHOWN]
        shown = sorted(near, key=lambda i: -told[i])
        listed = [listed_mask(masks[i], thumbnails[i], "kept" if kept[i] else "left out") for i in shown]
        lead = f"{sum(kept)} of {len(kept)} masks are kept. Shown are those nearest to the limit, best first."
        write_mask_list(
            out / "index.html", f"Pseudo-labels: {data.name}", lead, listed, facts(heads), failures
        )
        manifest = Manifest("sam filter", {"heads": heads.sha256, "rule": vars(rule)})
        manifest.failures = failures
        manifest.write(out)
    return _summary(rows, threshold, failures, out)


def _threshold(told: Sequence[float], rule: FilterRule) -> float:
    if rule.mean_iou is not None:
        return expected_threshold(told, rule.mean_iou)
    assert rule.threshold is not None
    return rule.threshold


def _summary(rows: list[dict[str, Any]], threshold: float, failures: list[str], out: Path) -> FilterSummary:
    kept = [row for row in rows if row["kept"]]
    agreements = [row["agreement"] for row in kept if row["agreement"] != ""]
    expected = float(np.mean([row["expected_iou"] for row in kept])) if kept else float("nan")
    agreement = float(np.mean(agreements)) if agreements else None
    return FilterSummary(
        len(kept),
        len(rows),
        threshold,
        expected,
        agreement,
        tuple(failures),
        out / "filter.csv",
        out / "index.html",
    )


def _write_masks(folder: Path, judged: Sequence[JudgedCase], kept: Sequence[bool], resample: bool) -> None:
    """Label maps of the kept masks on the images' grids; what is left out is 0."""
    folder.mkdir(exist_ok=True)
    position = 0
    for found in judged:
        own = kept[position : position + len(found.masks)]
        position += len(found.masks)
        geometry = read_image(found.case.images, found.case.name, resample).geometry
        if geometry.dims == 2:
            write_label_picture(folder / f"{found.case.name}.png", _labels(found, own, 1)[0])
            continue
        axis = slice_axis(geometry.spacing)
        stack = np.moveaxis(_labels(found, own, geometry.shape[axis]), 0, axis)
        write_nifti(folder / f"{found.case.name}.nii.gz", stack, geometry)


def _labels(found: JudgedCase, kept: Sequence[bool], count: int) -> np.ndarray:
    """(slices, height, width): values of the kept masks, those of the lowest expected IoU below the others."""
    labels = np.zeros((count, *found.pixels.shape[1:]), np.uint16)
    for i in sorted(range(len(kept)), key=lambda i: found.masks[i].expected_iou):
        if kept[i]:
            labels[found.masks[i].plane][found.pixels[i]] = found.masks[i].value
    return labels
