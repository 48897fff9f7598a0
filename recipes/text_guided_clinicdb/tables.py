"""The finished arms of `run` as Markdown: Dice, its difference to the whole network, and the quality of the doubt.

python -m recipes.text_guided_clinicdb.tables --out RUN > tables.md

Numbers of a case are means over seeds. Intervals are over colonoscopies, of which the test part has three, so they tell
how these differ and little about further ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from recipes.text_guided_clinicdb.arms import ARMS

from sfumato.metrics.bootstrap import Interval, bootstrap_difference, bootstrap_mean

Case = tuple[str, str]
"""Name and patient."""
Numbers = Mapping[str, Mapping[Case, Mapping[str, float]]]
"""By what stood in the sentence's place and by case: the means over seeds."""
PLACES = {
    "sentence": "its sentence",
    "none": "none",
    "paraphrase": "other words",
    "misspelt": "typing error",
    "contradiction": "a contradiction",
}
MAPS = {"auroc_predictive": "entropy", "auroc_error": "chance of error", "auroc_prompt": "what words change"}


def main() -> None:
    parser = argparse.ArgumentParser(description="The finished arms as Markdown.")
    parser.add_argument("--out", type=Path, required=True, help="the RUN of recipes.text_guided_clinicdb.run")
    folder = parser.parse_args().out
    found = {name: read_arm(folder / name, "test") for name in ARMS}
    found = {name: arm for name, arm in found.items() if arm}
    if "full" not in found:
        sys.exit(
            "The whole network is not finished, expected RUN/full/SEED/test; run recipes.text_guided_clinicdb.run."
        )
    held = read_arm(folder / "full", "calibration")
    tables = (arms_table(found, folder), places_table(found["full"]), doubt_table(found["full"], held))
    print("\n\n".join("\n".join(table) for table in tables))


def read_arm(folder: Path, split: str) -> Numbers:
    """The mean over seeds of each case's numbers; empty without a finished seed."""
    rows: dict[str, dict[Case, list[dict[str, float]]]] = defaultdict(lambda: defaultdict(list))
    for file in sorted(folder.glob(f"*/{split}/results.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                text = ("case", "patient", "arm", "sentence")
                numbers = {name: float(value) for name, value in row.items() if name not in text}
                rows[row["arm"]][row["case"], row["patient"]].append(numbers)
    return {
        place: {
            case: {n: float(np.mean([s[n] for s in seeds])) for n in seeds[0]} for case, seeds in c.items()
        }
        for place, c in rows.items()
    }


def arms_table(found: Mapping[str, Numbers], folder: Path) -> list[str]:
    """One row per arm, each case with its own sentence where the network reads, pooled ECE as the mean over seeds."""
    lines = [
        "| network | seeds | Dice | Dice of all parts, minus this | IoU | Dice without the sentence | AUROC near | "
        "ECE near | ECE |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, arm in found.items():
        own = "sentence" if "sentence" in arm else "none"
        seeds = [json.loads(f.read_text()) for f in sorted((folder / name).glob("*/test/results.json"))]
        pooled = [[s["arms"][own][key] for s in seeds] for key in ("pooled_ece", "pooled_ece_whole")]
        cells = [
            ARMS[name].title,
            str(len(seeds)),
            span(mean_of(arm[own], "dice")),
            span(difference(found["full"]["sentence"], arm[own], "dice")) if name != "full" else "",
            span(mean_of(arm[own], "iou")),
            span(mean_of(arm["none"], "dice")) if own == "sentence" else "",
            span(mean_of(arm[own], "auroc_predictive")),
            *(f"{np.mean(p):.3f} ({min(p):.3f} to {max(p):.3f})" for p in pooled),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def places_table(arm: Numbers) -> list[str]:
    """The whole network, by what stood in the sentence's place."""
    lines = [
        "| in the sentence's place | cases | Dice | its sentence's, minus this | IoU | AUROC near |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for place, cases in arm.items():
        lost = span(difference(arm["sentence"], cases, "dice")) if place != "sentence" else ""
        means = [span(mean_of(cases, n)) for n in ("dice", "iou", "auroc_predictive")]
        lines.append(f"| {PLACES[place]} | {len(cases)} | {means[0]} | {lost} | {means[1]} | {means[2]} |")
    return lines


def doubt_table(arm: Numbers, held: Numbers) -> list[str]:
    """The whole network's maps of doubt with its sentence; the calibration part is there to choose one by."""
    lines = ["| map of doubt | AUROC near, calibration | AUROC near, test |", "| --- | --- | --- |"]
    for name, title in MAPS.items():
        lines.append(
            f"| {title} | {span(mean_of(held['sentence'], name))} | {span(mean_of(arm['sentence'], name))} |"
        )
    return lines


def mean_of(cases: Mapping[Case, Mapping[str, float]], number: str) -> Interval:
    """Over cases, with an interval over patients."""
    return bootstrap_mean([value[number] for value in cases.values()], [patient for _, patient in cases])


def difference(
    first: Mapping[Case, Mapping[str, float]], second: Mapping[Case, Mapping[str, float]], number: str
) -> Interval:
    """First minus second, over the cases of both."""
    shared = sorted(set(first) & set(second))
    a, b = ([cases[case][number] for case in shared] for cases in (first, second))
    return bootstrap_difference(a, b, [patient for _, patient in shared])


def span(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    main()
