"""The results of a comparison as CSV and Markdown: everything but measured times is the same for the same input."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ..judge import METRICS

SHOWN = ("auroc", "auprc", "aurc", "eaurc", "augrc", "ece", "brier", "nll")
NAMES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "aurc": "AURC",
    "eaurc": "E-AURC",
    "augrc": "AUGRC",
    "ece": "ECE",
    "ece_equal_mass": "ECE, equal mass",
    "ece_classwise": "ECE, class-wise",
    "brier": "Brier",
    "nll": "NLL",
    "error_ece": "ECE of the error map",
}
REGION_NAMES = {
    "near": "within 5 voxels of the foreground",
    "foreground": "foreground",
    "boundary": "within 2 voxels of a boundary",
    "whole": "whole image",
}


def number(value: float | None) -> str:
    """Four or five places where that shows something, two digits of smaller numbers, `undefined` for null.

    Example:
        >>> number(0.95281), number(0.002991), number(-0.0000021), number(0.0), number(None)
        ('0.9528', '0.00299', '-2.1e-06', '0', 'undefined')
    """
    if value is None:
        return "undefined"
    if abs(value) < 1e-4:
        return f"{value:.2g}"
    return f"{value:.4f}" if abs(value) >= 0.01 else f"{value:.5f}"


def span(interval: Mapping[str, Any] | None) -> str:
    """A mean with its interval."""
    if interval is None or interval["mean"] is None:
        return "undefined"
    return f"{number(interval['mean'])} [{number(interval['low'])}, {number(interval['high'])}]"


def as_csv(results: Mapping[str, Any]) -> str:
    """One row per condition, region, method and metric."""
    header = ["condition", "region", "method", "metric", "mean", "low", "high", "cases", "undefined"]
    header += [
        "difference",
        "difference_low",
        "difference_high",
        "pooled",
        "pooled_low",
        "pooled_high",
        "bound",
    ]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for condition, content in results["conditions"].items():
        for region, methods in content["regions"].items():
            for label, entry in methods.items():
                for metric in METRICS:
                    one, pooled = entry["per_case"][metric], entry["pooled"][metric]
                    difference = entry["difference"][metric] if entry["difference"] else {}
                    row = [one[k] for k in ("mean", "low", "high", "cases", "undefined")]
                    row += [difference.get(k) for k in ("mean", "low", "high")]
                    row += [pooled[k] for k in ("value", "low", "high", "bound")]
                    writer.writerow(
                        [condition, region, label, metric, *("" if v is None else v for v in row)]
                    )
    return buffer.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def as_markdown(results: Mapping[str, Any]) -> str:
    """The tables a reader wants first; everything else is in `results.json`."""
    clean = results["conditions"]["clean"]
    parts = [
        f"{results['cases']} {results['split']} cases of {results['patients']} patients. Mean over cases and 95 % "
        f"interval from {results['resamples']} resamples of patients. Mistakes are those of the frozen segmenter, the "
        "same for every method.\n",
        _segmentation(clean),
    ]
    for region, title in REGION_NAMES.items():
        parts += [f"## Voxels: {title}\n", region_table(clean, region)]
    parts += [
        "## Paired difference to softmax entropy, near the foreground\n",
        difference_table(clean, "near"),
    ]
    parts += ["## Ranking near the foreground\n", ranking_table(clean, "near")]
    parts += ["## Cases\n", case_table(clean, results["methods"])]
    parts += ["## Doubtful voxels left out (QU-BraTS)\n", filtered_table(clean)]
    if clean["readers"]:
        parts += ["## Where readers disagree\n", readers_table(clean)]
    if len(results["conditions"]) > 1:
        parts += ["## Under shift, near the foreground\n", shift_table(results)]
    parts += ["## Cost per case\n", cost_table(results)]
    return "\n".join(parts)


def _segmentation(clean: Mapping[str, Any]) -> str:
    found = clean["segmentation"]
    rows = [[name, *(span(found[k][name]) for k in ("dice", "iou", "hd95"))] for name in found["dice"]]
    return markdown_table(["segmentation", "Dice", "IoU", "HD95 (mm; voxels for pictures)"], rows)


def region_table(condition: Mapping[str, Any], region: str) -> str:
    """Methods by metrics: mean over cases with interval."""
    rows = [
        [label, *(span(entry["per_case"][m]) for m in SHOWN)]
        for label, entry in condition["regions"][region].items()
    ]
    return markdown_table(["method", *(NAMES[m] for m in SHOWN)], rows)


def difference_table(condition: Mapping[str, Any], region: str) -> str:
    """Paired differences; those whose interval excludes 0 are marked."""
    rows = []
    for label, entry in condition["regions"][region].items():
        if entry["difference"]:
            cells = [entry["difference"][m] for m in SHOWN]
            rows.append([label, *(span(c) + (" *" if c["excludes_zero"] else "") for c in cells)])
    return markdown_table(["method", *(NAMES[m] for m in SHOWN)], rows) + "\n\\* the interval excludes 0\n"


def ranking_table(condition: Mapping[str, Any], region: str) -> str:
    """How stable the order of methods is over resamples."""
    rows = []
    found = condition["ranking"][region]
    for label in found["auroc"]:
        row = [label]
        for metric in found:
            entry = found[metric][label]
            row += [
                f"{entry['mean_rank']:.1f} [{entry['low']:.0f}, {entry['high']:.0f}]",
                f"{entry['first']:.0%}",
            ]
        rows.append(row)
    header = ["method"]
    for metric in found:
        header += [f"rank by {NAMES[metric]}", f"first by {NAMES[metric]}"]
    return markdown_table(header, rows)


def case_table(condition: Mapping[str, Any], methods: Mapping[str, Any]) -> str:
    """The case score against 1 - Dice."""
    header = [
        "method",
        "score",
        "Spearman",
        "AURC",
        "AURC of a perfect order",
        "AURC at random",
        "best aggregation of the error map",
    ]
    rows = []
    for label, entry in condition["case_level"].items():
        known = {k: v for k, v in entry["aggregations"].items() if v is not None}
        best = max(known, key=lambda k: known[k]) if known else ""
        rows.append(
            [
                label,
                methods[label]["case_score"],
                span(entry["spearman"]),
                span(entry["aurc"]),
                number(entry["aurc_perfect"]),
                number(entry["aurc_at_random"]),
                f"{best} {number(known[best])}" if best else "undefined",
            ]
        )
    return markdown_table(header, rows)


def filtered_table(condition: Mapping[str, Any]) -> str:
    """Areas of the filtered Dice, FTP and FTN curves and the summary score, mean over classes."""
    rows = [
        [label, *(number(entry[k]) for k in ("dice_auc", "ftp_auc", "ftn_auc", "score"))]
        for label, entry in condition["filtered"].items()
    ]
    return markdown_table(["method", "Dice area", "FTP area", "FTN area", "score"], rows)


def readers_table(condition: Mapping[str, Any]) -> str:
    """Agreement of the maps with the readers' disagreement."""
    names = list(next(iter(condition["readers"].values())))
    rows = [[label, *(span(entry[n]) for n in names)] for label, entry in condition["readers"].items()]
    return markdown_table(["method", *(n.replace("_", " ") for n in names)], rows)


def shift_table(results: Mapping[str, Any]) -> str:
    """AUROC, AURC and ECE near the foreground under every corruption, mean over cases."""
    rows = []
    for condition, content in results["conditions"].items():
        for label, entry in content["regions"]["near"].items():
            numbers = [number(entry["per_case"][m]["mean"]) for m in ("auroc", "aurc", "ece")]
            spearman = number(content["case_level"][label]["spearman"]["mean"])
            dice = number(content["segmentation"]["dice"]["mean"]["mean"])
            rows.append([condition, dice, label, *numbers, spearman])
    return markdown_table(
        ["images", "Dice", "method", "AUROC", "AURC", "ECE", "Spearman with 1 - Dice"], rows
    )


def cost_table(results: Mapping[str, Any]) -> str:
    """Passes, seconds and memory; the shared pass of the segmenter is counted for every method."""
    rows = []
    for label, entry in results["methods"].items():
        cost = entry["cost"]
        seconds = [f"{cost[k]:.3f}" for k in ("cpu_seconds", "own_cpu_seconds")]
        memory = "unknown" if cost["peak_mib"] is None else f"{cost['peak_mib']:.0f}"
        rows.append([label, str(entry["passes"]), *seconds, memory])
    header = ["method", "passes", "CPU seconds", "of these the method's own", "working memory (MiB)"]
    return markdown_table(header, rows)
