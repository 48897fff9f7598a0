"""Relative AUC of correcting the most uncertain first, for the model, the prompt, the task and the mask itself.

python -m recipes.sam_gaps.gaps --data DATA --out RUN > docs/results/sam_gaps_relative_auc.md

Twice: as in the paper, where every mask that is compared is the truly best hypothesis of its prompt and heads were
fitted for that (`fit --choice best`), and with the masks that a user gets, the network's own picks. Heads always read
the token of the own pick; one row reads that of the truly best hypothesis, as the paper's data do, which nobody has.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from recipes.sam_gaps.data import bench_sets
from recipes.sam_gaps.fit import records_of
from recipes.sam_gaps.measures import text
from recipes.sam_gaps.tables import LARGE, groups_of, load, rows_of
from torch import Tensor

from sfumato.methods.sam_gaps.baselines import free_scores
from sfumato.methods.sam_gaps.coding import MASK_IOU, MODEL_GAP, PROMPT_GAP, TASK_GAP
from sfumato.methods.sam_gaps.estimator import SamGaps
from sfumato.methods.sam_gaps.records import GapRecords
from sfumato.metrics.relative_auc import relative_auc_interval

CHEAP = 0
LEAKED = "heads, in domain, on the truly best hypothesis' token"
HEADS = {"model": MODEL_GAP, "prompt": PROMPT_GAP, "task": TASK_GAP, "mask": MASK_IOU}
PAPER = {"model": 0.637, "prompt": 0.783, "task": 0.948}
"""Of COCO with SAM 2, from the paper's table 6; natural images and other networks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = tuple(bench_sets(arguments.data))
    test = {name: records_of(arguments.out, (name,), "test") for name in sets}
    for choice, ending, title in (
        ("best", "_best", "as in the paper: truly best hypotheses"),
        ("own", "", "masks that a user gets: own picks"),
    ):
        fitted = {
            "heads, in domain": dict.fromkeys(sets, load(arguments.out, "together" + ending)),
            "heads, left out": {n: load(arguments.out, f"without_{n}{ending}") for n in sets},
        }
        for kind in ("point", None):
            print(f"\n### {title}; {'single clicks' if kind else 'all kinds of prompts'}\n")
            print_panels(test, fitted, choice, kind)


def print_panels(
    test: Mapping[str, GapRecords],
    fitted: Mapping[str, Mapping[str, SamGaps]],
    choice: str,
    kind: str | None,
) -> None:
    print("| score | " + " | ".join(HEADS) + " |\n| --- |" + " --- |" * len(HEADS))
    columns: dict[str, list[str]] = {}
    for panel in HEADS:
        for score, cell in panel_cells(test, fitted, panel, choice, kind).items():
            columns.setdefault(score, []).append(cell)
    for score, cells in columns.items():
        print(f"| {score} | " + " | ".join(cells) + " |")
    if choice == "best" and kind == "point":
        cells = [f"{PAPER[panel]:.3f}" if panel in PAPER else "" for panel in HEADS]
        print("| the paper's heads, on COCO | " + " | ".join(cells) + " |")


def panel_cells(
    test: Mapping[str, GapRecords],
    fitted: Mapping[str, Mapping[str, SamGaps]],
    panel: str,
    choice: str,
    kind: str | None,
) -> dict[str, str]:
    """Relative area of every score when one thing is corrected: at 512 pixels for the model gap, else at 1024."""
    rung = CHEAP if panel == "model" else LARGE
    doubts: dict[str, list[Tensor]] = {}
    before, after, groups = [], [], []
    for name, records in test.items():
        rows = rows_of(records, rung, kind)
        start, end = correction(records, panel, choice)
        before.append(start[rows])
        after.append(end[rows])
        groups += groups_of(records, rows)
        for score, value in doubts_of(records, {k: v[name] for k, v in fitted.items()}, panel).items():
            doubts.setdefault(score, []).append(value[rows])
    first, last = (torch.cat(v).double().numpy() for v in (before, after))
    found = {}
    for score, parts in doubts.items():
        doubt = torch.cat(parts).double().numpy()
        known = np.isfinite(doubt).any()
        found[score] = (
            text(relative_auc_interval(doubt, first, last, groups, resamples=500)) if known else "–"
        )
    return found


def correction(records: GapRecords, panel: str, choice: str) -> tuple[Tensor, Tensor]:
    """IoU before and after."""
    own, best = records.of(records.own()), records.iou.amax(dim=1)
    shown = best if choice == "best" else own
    rungs = records.rung_best if choice == "best" else records.rung_own
    return {
        "model": (shown, rungs[:, LARGE]),
        "prompt": (shown, records.dense_best if choice == "best" else records.dense_own),
        "task": (own, best),
        "mask": (shown, torch.ones_like(own)),
    }[panel]


def doubts_of(records: GapRecords, fitted: Mapping[str, SamGaps], panel: str) -> dict[str, Tensor]:
    """What each score says, higher = corrected earlier."""
    rows, own = torch.arange(len(records)), records.own()
    found: dict[str, Tensor] = {}
    sign = -1 if panel == "mask" else 1
    for name, gaps in fitted.items():
        told = sign * gaps.outputs(records.inputs)[HEADS[panel]]
        found[name] = told[rows, own]
        found.setdefault(LEAKED, told[rows, records.best()])
    free = free_scores(records.inputs)
    found |= {
        "SamScore": free["sam_score"],
        "stability": free["instability"],
        "mask entropy (H_Std)": records.references["single"],
        "entropy of the three masks (H_A)": records.references["task"],
        "entropy over both networks (H_model)": records.references["models"],
        "entropy over resampled clicks (H_XP)": records.references["prompts"],
        "random": free["random"],
    }
    return found


if __name__ == "__main__":
    main()
