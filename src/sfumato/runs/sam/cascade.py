"""`sfumato sam cascade`: on a labelled data set, what sending some prompts on to the larger network buys, and costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import Case, open_dataset
from ...datasets.splits import PATIENT_PATTERN, SPLIT_NAMES
from ...errors import ConfigError
from ...methods.sam_gaps.cascade import CascadeCurve, Costs, cascade_curve, threshold_for_share
from ...methods.sam_gaps.records import GapRecords
from ...metrics.relative_auc import relative_auc_interval
from ...report.sam import write_mask_list
from ...report.sam_curves import cascade_plot
from ...segmenters.promptable.ladder import Ladder
from ..files import csv_text, locked, write_text
from ..manifest import Manifest
from .collect import CollectOptions, collect
from .heads import Heads
from .order import facts
from .record_files import load_records

HEADS, ESTIMATE, RANDOM, ORACLE = "heads", "own estimate", "random", "oracle"
SHARES = np.linspace(0, 1, 21)
LEAD = (
    "The cheap network answers every prompt; a share of them is sent on to the larger one. The curves are the mean "
    "true IoU when that share is chosen by the predicted model gap (heads), by the lowest own estimate of the cheap "
    "network, at random, and by the true gain, which nobody knows in time (oracle)."
)


@dataclass(frozen=True)
class CascadeOptions:
    """What is asked.

    Args:
        collect: prompts and objects, see `CollectOptions`.
        split: `train`, `calibration`, `test` or `all`.
        splits_file: see `sfumato.datasets`.
        patient_pattern: see `sfumato.datasets`.
        costs: of the cheap and of the large network per prompt, in one unit; None takes those of the ladder.
    """

    collect: CollectOptions
    split: str = "test"
    splits_file: Path | None = None
    patient_pattern: str = PATIENT_PATTERN
    costs: Costs | None = None

    def __post_init__(self) -> None:
        if self.split not in (*SPLIT_NAMES, "all"):
            raise ConfigError(f"--split {self.split!r}, expected one of {', '.join(SPLIT_NAMES)} or all.")


def parse_costs(text: str) -> Costs | None:
    """`CHEAP,LARGE`; None of an empty text.

    Raises:
        ConfigError: anything else.

    Example:
        >>> parse_costs("0.14,0.44"), parse_costs("")
        (Costs(cheap=0.14, large=0.44), None)
    """
    if not text:
        return None
    try:
        cheap, large = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--cost {text!r}, expected CHEAP,LARGE such as 0.14,0.44.") from error
    return Costs(cheap, large)


def run_cascade(
    data: Path,
    heads: Heads,
    ladder: Ladder,
    out: Path,
    options: CascadeOptions,
    note: Callable[[str, str], None] = lambda name, state: None,
) -> dict[str, Any]:
    """Write `cascade.csv`, `cascade.png`, `index.html`.

    Args:
        data: labelled data set folder.
        heads: fitted on this ladder.
        ladder: networks, cheapest first, at least two.
        out: for the results; a killed run is finished there.
        options: see `CascadeOptions`.
        note: told each case's name and state.

    Returns:
        Relative areas under the curves with 95 % intervals, thresholds for shares, failures, plain types.

    Raises:
        ConfigError: a ladder of one network.
        StorageError: no records, as no case could be used.
    """
    if len(ladder) < 2:
        raise ConfigError("A ladder of one network, expected at least two; name another one with --ladder.")
    cases = _cases(data, options)
    with locked(out):
        found = collect(cases, data.name, ladder, out / "records", options.collect, note)
        records = load_records(out / "records", [case.name for case in cases])
        cheap = records[records.inputs.rung == 0]
        costs = options.costs or Costs(ladder.costs[0], ladder.costs[-1])
        curves, summary = compare_rules(cheap, heads, costs)
        write_text(out / "cascade.csv", csv_text(_rows(curves)))
        png = cascade_plot(curves, costs)
        (out / "cascade.png").write_bytes(png)
        title = f"Cascade: {ladder.names[0]} to {ladder.names[-1]} on {data.name}"
        write_mask_list(
            out / "index.html",
            title,
            LEAD,
            (),
            facts(heads),
            found.failures,
            [("Mean true IoU over cost.", png)],
        )
        manifest = Manifest(
            "sam cascade", {"heads": heads.sha256, "split": options.split}, options.collect.seed
        )
        manifest.failures = list(found.failures)
        manifest.write(out)
    return {**summary, "failures": list(found.failures), "page": str(out / "index.html")}


def _cases(data: Path, options: CascadeOptions) -> list[Case]:
    dataset = open_dataset(data, options.patient_pattern)
    names: Sequence[str] = list(dataset.cases)
    if options.split != "all":
        names = dataset.splits(options.splits_file)[options.split]  # type: ignore[index]  # checked by the class
    return [dataset.cases[name] for name in names]


def compare_rules(
    records: GapRecords, heads: Heads, costs: Costs
) -> tuple[dict[str, CascadeCurve], dict[str, Any]]:
    """Curves by rule, and a summary.

    Args:
        records: of the cheapest network.
        heads: whose model gap is judged.
        costs: per prompt.
    """
    judged = heads.gaps.judge(records.inputs)
    cheap, large = records.rung_own[:, 0].numpy(), records.rung_own[:, -1].numpy()
    own = records.inputs.estimates.gather(1, records.own()[:, None])[:, 0].numpy()
    gap = judged.model_gap.numpy()
    scores = {HEADS: gap, ESTIMATE: -own, RANDOM: np.zeros_like(own), ORACLE: large - cheap}
    curves = {name: cascade_curve(score, cheap, large, costs) for name, score in scores.items()}
    relative = {}
    for name in (HEADS, ESTIMATE):
        value = relative_auc_interval(scores[name], cheap, large, records.groups)
        relative[name] = {"value": value.value, "low": value.low, "high": value.high}
    thresholds = {f"{share:.2f}": threshold_for_share(gap, share) for share in (0.1, 0.25, 0.5)}
    summary = {
        "prompts": len(records),
        "cheap_iou": float(cheap.mean()),
        "large_iou": float(large.mean()),
        "break_even_share": costs.break_even,
        "relative_auc": relative,
        "thresholds": thresholds,
    }
    return curves, summary


def _rows(curves: Mapping[str, CascadeCurve]) -> list[dict[str, Any]]:
    """Every twentieth of the share, one column per rule."""
    rows = []
    for share in SHARES:
        row: dict[str, Any] = {"share": round(float(share), 2)}
        for name, curve in curves.items():
            row["cost"] = round(float(np.interp(share, curve.share, curve.cost)), 6)
            row[f"iou {name}"] = round(float(np.interp(share, curve.share, curve.iou)), 4)
        rows.append(row)
    return rows
