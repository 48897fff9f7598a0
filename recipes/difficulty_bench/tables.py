"""How well every score finds damaged images and wrong labels.

    python recipes/difficulty_bench/tables.py CONTAMINATED [CONTAMINATED ...] --csv all.csv > tables.md

CONTAMINATED holds what `describe.py` wrote in described/ and `agree.py` in agreed/. Figures are means over draws of the
faulty cases (see `mixtures.py`), with their range; the file has all severities and prevalences.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from sfumato.datasets.corruption import CORRUPTIONS, SEVERITIES
from sfumato.datasets.label_corruption import LABEL_CORRUPTIONS

from agree import IMAGE_COLUMNS, MIDDLE  # isort: skip
from mixtures import PREVALENCES, Described, agreed, image_rows, label_rows, segmenter_rows, segmenter_scores  # isort: skip


def summary(
    rows: list[dict], data: str, target: str, value: str, severity: int, prevalence: float
) -> dict[tuple[str, str], list[float]]:
    found: dict[tuple[str, str], list[float]] = {}
    for r in rows:
        if (r["data"], r["target"], r["severity"], r["prevalence"]) == (data, target, severity, prevalence):
            found.setdefault((r["score"], r["kind"]), []).append(r[value])
    return found


def print_scores(rows: list[dict], data: str, target: str) -> None:
    kinds = list(CORRUPTIONS if target == "image" else LABEL_CORRUPTIONS)
    auroc = summary(rows, data, target, "auroc", MIDDLE, 0.1)
    precision = summary(rows, data, target, "ap", MIDDLE, 0.1)
    scores = list(dict.fromkeys(score for score, _ in auroc))
    print(f"\n### {data}: {target}s, middle severity, 10 %\n")
    print(f"| score | {' | '.join(kinds)} | mean AUROC [draws] | mean AP |")
    print("| --- |" + " --- |" * (len(kinds) + 2))
    for score in scores:
        cells = [np.mean(auroc[score, kind]) if (score, kind) in auroc else np.nan for kind in kinds]
        by_draw = np.nanmean([auroc[score, kind] for kind in kinds if (score, kind) in auroc], axis=0)
        ap = np.nanmean([np.mean(precision[score, kind]) for kind in kinds if (score, kind) in precision])
        print(
            f"| {score} | " + " | ".join(f"{c:.3f}" for c in cells)
            + f" | {by_draw.mean():.3f} [{by_draw.min():.3f}, {by_draw.max():.3f}] | {ap:.3f} |"
        )  # fmt: skip


def print_levels(rows: list[dict], data: str, target: str) -> None:
    """The combined score at every severity and prevalence: mean over kinds of AUROC and AP."""
    print(f"\n| {data}, combined {target} score | " + " | ".join(f"{p:.0%}" for p in PREVALENCES) + " |")
    print("| --- |" + " --- |" * len(PREVALENCES))
    for severity in SEVERITIES:
        cells = []
        for prevalence in PREVALENCES:
            values = [summary(rows, data, target, v, severity, prevalence) for v in ("auroc", "ap")]
            means = [
                np.mean([np.mean(x) for (score, _), x in found.items() if score == target])
                for found in values
            ]
            cells.append(f"{means[0]:.3f} / {means[1]:.3f}")
        print(f"| severity {severity}, AUROC / AP | " + " | ".join(cells) + " |")


def print_dice(data: str, images: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> None:
    """Spearman with 1 - Dice of the segmenter on unseen cases, an interval over cases, and with size taken out."""
    clean = images["clean|0"]
    wrong = 1 - clean[:, IMAGE_COLUMNS.index("dice")]
    known = np.isfinite(wrong)
    scores = {n: v[known] for n, v in segmenter_scores(clean).items()}
    wrong, size = wrong[known], rankdata(clean[known, IMAGE_COLUMNS.index("predicted_voxels")])
    print(
        f"\n| {data}: score against 1 - Dice, {known.sum()} held-out cases | Spearman [95 %] | with size held fixed |"
    )
    print("| --- | --- | --- |")
    rng = np.random.default_rng(0)
    for name, values in scores.items():
        picks = [rng.integers(0, len(wrong), len(wrong)) for _ in range(1000)]
        spread = np.nanpercentile([spearmanr(values[p], wrong[p])[0] for p in picks], (2.5, 97.5))
        print(
            f"| {name} | {spearmanr(values, wrong)[0]:.3f} [{spread[0]:.3f}, {spread[1]:.3f}] | "
            f"{partial(rankdata(values), rankdata(wrong), size):.3f} |"
        )


def partial(one: np.ndarray, other: np.ndarray, given: np.ndarray) -> float:
    """Correlation of what a straight line in `given` leaves."""
    left = [v - np.polyval(np.polyfit(given, v, 1), given) for v in (one, other)]
    return float(np.corrcoef(*left)[0, 1]) if min(v.std() for v in left) > 1e-9 else float("nan")


def write_averages(path: Path, rows: list[dict]) -> None:
    """One line per data set, fault, severity, prevalence and score: mean AUROC over draws, its range, and mean AP."""
    found: dict[tuple, list[tuple[float, float]]] = {}
    for r in rows:
        key = tuple(r[k] for k in ("data", "target", "kind", "severity", "prevalence", "score"))
        found.setdefault(key, []).append((float(r["auroc"]), float(r["ap"])))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["data", "target", "kind", "severity", "prevalence", "score", "auroc", "lowest", "highest", "ap"]
        )
        for key, values in found.items():
            auroc, precision = np.array(values).T
            figures = (auroc.mean(), auroc.min(), auroc.max(), precision.mean())
            writer.writerow([*key, *(f"{v:.4f}" for v in figures)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.folders:
        data = folder.name
        labels, images = agreed(folder / "agreed")
        rows += image_rows(data, Described.read(folder / "described"))
        rows += segmenter_rows(data, images) + label_rows(data, labels)
        for target in ("image", "label"):
            print_scores(rows, data, target)
            print_levels(rows, data, target)
        print_dice(data, images, labels)
    if arguments.csv:
        write_averages(arguments.csv, rows)


if __name__ == "__main__":
    main()
