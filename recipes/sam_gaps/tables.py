"""Tables of the bench on test cases, from records and heads.

python -m recipes.sam_gaps.tables --data DATA --out RUN > docs/results/sam_gaps.md
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from recipes.sam_gaps.data import bench_sets
from recipes.sam_gaps.fit import records_of
from recipes.sam_gaps.measures import check_ece, ece, pearson, text, with_interval
from torch import Tensor

from sfumato.interfaces import FitContext
from sfumato.methods.sam_gaps.baselines import fit_linear_heads
from sfumato.methods.sam_gaps.coding import MASK_IOU
from sfumato.methods.sam_gaps.estimator import Assessment, SamGaps
from sfumato.methods.sam_gaps.records import PROMPT_KINDS, GapRecords
from sfumato.storage import load_method

THRESHOLD = 0.75
LARGE = 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = tuple(bench_sets(arguments.data))
    test = {name: records_of(arguments.out, (name,), "test") for name in sets}
    train = {name: records_of(arguments.out, (name,), "train") for name in sets}
    told_in = judged(arguments.out, "together", train, test)
    told_out = {
        name: judged(
            arguments.out,
            f"without_{name}",
            {n: r for n, r in train.items() if n != name},
            {name: test[name]},
        )[name]
        for name in sets
    }
    print_sizes(arguments.out, test)
    print_correlation("In domain: heads fitted on the train cases of all four sets", test, told_in)
    print_correlation("Left out: heads that saw no case of the set", test, told_out)
    print_kinds(test, told_in)
    print_calibration(test, told_in, told_out)
    print_choice(test, told_in, told_out)


@dataclass(frozen=True)
class Told:
    """What is said of test decodes.

    Args:
        heads: by the fitted heads.
        linear: IoU of every hypothesis by a linear control on the same features.
    """

    heads: Assessment
    linear: Tensor


def judged(
    out: Path, setting: str, train: Mapping[str, GapRecords], test: Mapping[str, GapRecords]
) -> dict[str, Told]:
    """Heads of a setting, and the linear control fitted on the same train records, on test records."""
    gaps = load(out, setting)
    control = fit_linear_heads(GapRecords.cat(list(train.values())), gaps.config, FitContext(None, 0, "cpu"))
    return {
        name: Told(gaps.judge(records.inputs), control.outputs(records.inputs)[MASK_IOU])
        for name, records in test.items()
    }


def load(out: Path, setting: str) -> SamGaps:
    """Fitted heads."""
    estimator = load_method(out / "heads" / setting).estimator
    assert isinstance(estimator, SamGaps)
    return estimator


def rows_of(records: GapRecords, rung: int, kind: str | None = None) -> Tensor:
    """Rows of one rung, and of one kind of prompt."""
    kept = records.inputs.rung == rung
    return kept if kind is None else kept & (records.inputs.kind == PROMPT_KINDS.index(kind))


def groups_of(records: GapRecords, rows: Tensor) -> list[str]:
    """Group of every row, with its data set."""
    return [f"{records.sets[i]}/{records.groups[i]}" for i in rows.nonzero()[:, 0].tolist()]


def scores_of(records: GapRecords, told: Told) -> dict[str, np.ndarray]:
    """What each score says of the network's own pick, higher = better; NaN where it was not computed."""
    own = records.own()
    rows = torch.arange(len(own))
    stability = records.inputs.shape[rows, own, 3]
    found: dict[str, Tensor] = {
        "expected IoU (heads)": told.heads.expected_iou[rows, own],
        "linear control": told.linear[rows, own],
        "SamScore": records.inputs.estimates[rows, own],
        "stability": stability,
        "mask entropy": -records.references["single"],
        "entropy of the three masks": -records.references["task"],
        "entropy over both networks": -records.references["models"],
        "entropy over resampled clicks": -records.references["prompts"],
    }
    return {name: value.double().numpy() for name, value in found.items()}


def pooled(
    test: Mapping[str, GapRecords], told: Mapping[str, Told], rung: int, kind: str | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """Scores, true IoU of the own pick and groups, of all sets one after the other."""
    scores: dict[str, list[np.ndarray]] = {}
    iou, groups = [], []
    for name, records in test.items():
        rows = rows_of(records, rung, kind)
        for score, value in scores_of(records, told[name]).items():
            scores.setdefault(score, []).append(value[rows.numpy()])
        iou.append(records.of(records.own())[rows].double().numpy())
        groups += groups_of(records, rows)
    return {k: np.concatenate(v) for k, v in scores.items()}, np.concatenate(iou), groups


def print_sizes(out: Path, test: Mapping[str, GapRecords]) -> None:
    print("### Objects and decodes\n\n| set | " + " | ".join(f"{s} objects (decodes)" for s in SPLITS) + " |")
    print("| --- |" + " --- |" * len(SPLITS))
    for name in test:
        cells = []
        for split in SPLITS:
            records = test[name] if split == "test" else records_of(out, (name,), split)
            cells.append(f"{len(set(records.objects))} ({len(records)})")
        print(f"| {name} | " + " | ".join(cells) + " |")


SPLITS = ("train", "calibration", "test")


def print_correlation(
    title: str, test: Mapping[str, GapRecords], told: Mapping[str, Told], rung: int = LARGE
) -> None:
    """Pearson correlation with the true IoU of the network's own pick: each set, and pooled."""
    print(f"\n### {title}\n\n| Pearson with true IoU | " + " | ".join([*test, "pooled"]) + " |")
    print("| --- |" + " --- |" * (len(test) + 1))
    parts = [pooled({n: test[n]}, told, rung) for n in test] + [pooled(test, told, rung)]
    for score in parts[0][0]:
        cells = [text(with_interval(pearson, s[score], iou, g)) for s, iou, g in parts]
        print(f"| {score} | " + " | ".join(cells) + " |")
    print("| mean true IoU | " + " | ".join(f"{iou.mean():.3f}" for _, iou, _ in parts) + " |")


def print_kinds(test: Mapping[str, GapRecords], told: Mapping[str, Told]) -> None:
    print("\n### Pooled, by kind of prompt (in domain, 1024 pixels)\n")
    kinds = [k for k in PROMPT_KINDS if any(rows_of(r, LARGE, k).any() for r in test.values())]
    parts = [pooled(test, told, LARGE, kind) for kind in kinds]
    print("| Pearson with true IoU | " + " | ".join(kinds) + " |\n| --- |" + " --- |" * len(kinds))
    for score in parts[0][0]:
        cells = [text(with_interval(pearson, s[score], iou, g)) for s, iou, g in parts]
        print(f"| {score} | " + " | ".join(cells) + " |")
    print("| mean true IoU | " + " | ".join(f"{iou.mean():.3f}" for _, iou, _ in parts) + " |")


def print_calibration(
    test: Mapping[str, GapRecords],
    told_in: Mapping[str, Told],
    told_out: Mapping[str, Told],
) -> None:
    print(f"\n### Calibration of the own pick at 1024 pixels\n\n| | | {' | '.join([*test, 'pooled'])} |")
    print("| --- | --- |" + " --- |" * (len(test) + 1))
    for title, told in (("in domain", told_in), ("left out", told_out)):
        table: dict[str, list[str]] = {}
        for names in [(n,) for n in test] + [tuple(test)]:
            for what, cell in calibration_cells({n: test[n] for n in names}, told).items():
                table.setdefault(what, []).append(cell)
        for what, cells in table.items():
            print(f"| {title} | {what} | " + " | ".join(cells) + " |")


def calibration_cells(test: Mapping[str, GapRecords], told: Mapping[str, Told]) -> dict[str, str]:
    chance, expected, inside, width, iou, said, groups = [], [], [], [], [], [], []
    for name, records in test.items():
        rows, own, found = rows_of(records, LARGE), records.own(), told[name].heads
        every = torch.arange(len(own))
        true = records.of(own)
        low, high = found.low[every, own], found.high[every, own]
        chance.append(found.above[every, own][rows])
        expected.append(found.expected_iou[every, own][rows])
        inside.append(((true >= low) & (true <= high))[rows].float())
        width.append((high - low)[rows])
        iou.append(true[rows])
        said.append(records.inputs.estimates[every, own][rows])
        groups += groups_of(records, rows)
    p, e, i, w, y, s = (torch.cat(v).double().numpy() for v in (chance, expected, inside, width, iou, said))
    happened = (y > THRESHOLD).astype(float)
    check_ece(p, happened)
    ones = np.ones(len(y))
    return {
        f"ECE of IoU > {THRESHOLD}": text(with_interval(ece, p, happened, groups)),
        "the same, SamScore as the chance": f"{ece(s.clip(0, 1), happened, ones):.3f}",
        "mean absolute error of expected IoU": f"{np.abs(e - y).mean():.3f}",
        "the same of SamScore": f"{np.abs(s - y).mean():.3f}",
        "inside the 90 % interval": f"{i.mean():.3f}",
        "mean width of the interval": f"{w.mean():.3f}",
    }


def print_choice(
    test: Mapping[str, GapRecords],
    told_in: Mapping[str, Told],
    told_out: Mapping[str, Told],
) -> None:
    print("\n### Which of the three masks is meant: mean IoU at 1024 pixels\n")
    print("| set | SamScore's pick | heads' pick, in domain | heads' pick, left out | best of three |")
    print("| --- | --- | --- | --- | --- |")
    for name, records in test.items():
        rows = rows_of(records, LARGE)
        picks = [records.own(), told_in[name].heads.chosen, told_out[name].heads.chosen, records.best()]
        cells = [f"{float(records.of(pick)[rows].mean()):.3f}" for pick in picks]
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
