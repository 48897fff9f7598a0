"""The tables of a comparison page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .html import Markup, join, table, tag

METRICS = {
    "auroc": "AUROC ↑",
    "auprc": "AUPRC ↑",
    "aurc": "AURC ↓",
    "augrc": "AUGRC ↓",
    "ece": "ECE ↓",
    "brier": "Brier ↓",
    "nll": "NLL ↓",
}


def number(value: float | None) -> str:
    """Four places that matter; a dash for an undefined number."""
    if value is None:
        return "–"
    if abs(value) < 1e-4:
        return f"{value:.2g}"
    return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.5f}"


def cell(interval: Mapping[str, Any] | None, best: bool = False) -> Markup:
    """A mean, and its interval in grey below."""
    if interval is None or interval["mean"] is None:
        return tag("span", "–")
    classes = "best" if best else None
    low, high = number(interval["low"]), number(interval["high"])
    return join(
        [
            tag("span", number(interval["mean"]), class_=classes),
            tag("span", f"{low} – {high}", class_="span"),
        ],
        "",
    )


def wide(header: Sequence[object], rows: Sequence[Sequence[object]]) -> Markup:
    """A table that scrolls sideways on a narrow screen; all but the first column are numbers."""
    return tag("div", table(header, rows, range(1, len(header))), class_="wide")


def best_of(values: Mapping[str, float | None], higher: bool) -> str | None:
    """The name of the best value, None where all are undefined."""
    known = {k: v for k, v in values.items() if v is not None}
    if not known:
        return None
    return (max if higher else min)(known, key=lambda k: known[k])


def region_table(condition: Mapping[str, Any], region: str) -> Markup:
    """Methods by metrics in one region."""
    methods = condition["regions"][region]
    best = {
        m: best_of({n: e["per_case"][m]["mean"] for n, e in methods.items()}, "↑" in METRICS[m])
        for m in METRICS
    }
    rows = [
        [label, *(cell(entry["per_case"][m], best[m] == label) for m in METRICS)]
        for label, entry in methods.items()
    ]
    return wide(["method", *METRICS.values()], rows)


def stability_table(condition: Mapping[str, Any]) -> Markup:
    """Mean rank and share of first places over resamples."""
    found = condition["ranking"]["near"]
    header: list[str] = ["method"]
    for metric in found:
        header += [f"mean rank by {METRICS[metric]}", "first in"]
    rows = []
    for label in found["auroc"]:
        row: list[object] = [label]
        for metric in found:
            entry = found[metric][label]
            row += [
                f"{entry['mean_rank']:.1f} ({entry['low']:.0f} to {entry['high']:.0f})",
                f"{entry['first']:.0%}",
            ]
        rows.append(row)
    note = tag(
        "p", "Near the foreground, over the same resamples of patients for all methods.", class_="note"
    )
    return join([note, wide(header, rows)])


def cases_table(condition: Mapping[str, Any], methods: Mapping[str, Any]) -> Markup:
    """Case scores against 1 - Dice."""
    level = condition["case_level"]
    best = best_of({n: e["spearman"]["mean"] for n, e in level.items()}, True)
    names = list(next(iter(level.values()))["aggregations"])
    rows = [
        [
            label,
            methods[label]["case_score"],
            cell(entry["spearman"], label == best),
            cell(entry["aurc"]),
            number(entry["auroc_low_dice"]),
            *(number(entry["aggregations"][n]) for n in names),
        ]
        for label, entry in level.items()
    ]
    first = next(iter(level.values()))
    note = tag(
        "p",
        f"Against 1 - Dice. AURC at random {number(first['aurc_at_random'])}, of a perfect order "
        f"{number(first['aurc_perfect'])}. On the right: Spearman of other ways from the error map to a "
        f"score. Low Dice: below {number(first['low_dice'])}, the lowest quarter.",
        class_="note",
    )
    header = [
        "method",
        "score",
        "Spearman ↑",
        "AURC ↓",
        "AUROC of low Dice ↑",
        *(n.replace("_", " ") for n in names),
    ]
    return join([note, wide(header, rows)])


def filtered_table(condition: Mapping[str, Any]) -> Markup:
    """Areas and score of QU-BraTS."""
    found = condition["filtered"]
    best = best_of({n: e["score"] for n, e in found.items()}, True)
    rows = [
        [
            label,
            *(number(entry[k]) for k in ("dice_auc", "ftp_auc", "ftn_auc")),
            tag("span", number(entry["score"]), class_="best" if label == best else None),
        ]
        for label, entry in found.items()
    ]
    note = tag(
        "p",
        "QU-BraTS, over the error map from 0 to 100 %: area under the Dice of the voxels kept, and of the true "
        "positives and true negatives that are lost for it; the score joins the three.",
        class_="note",
    )
    return join(
        [note, wide(["method", "Dice ↑", "lost true positives ↓", "lost true negatives ↓", "score ↑"], rows)]
    )


def readers_table(condition: Mapping[str, Any]) -> Markup:
    """Agreement with where readers disagree."""
    found = condition["readers"]
    names = list(next(iter(found.values())))
    rows = [[label, *(cell(entry[n]) for n in names)] for label, entry in found.items()]
    return wide(["method", *(n.replace("_", " ") for n in names)], rows)


def cost_table(results: Mapping[str, Any]) -> Markup:
    """Passes, seconds and memory."""
    rows = [
        [
            label,
            str(entry["passes"]),
            f"{entry['cost']['cpu_seconds']:.3f}",
            f"{entry['cost']['own_cpu_seconds']:.3f}",
            "–" if entry["cost"]["peak_mib"] is None else f"{entry['cost']['peak_mib']:.0f}",
        ]
        for label, entry in results["methods"].items()
    ]
    note = tag(
        "p",
        "The pass of the segmenter is shared, and counted for every method. Working memory is what one call added "
        "to the process.",
        class_="note",
    )
    return join(
        [note, wide(["method", "passes", "CPU seconds", "the method's own", "working memory, MiB"], rows)]
    )
