"""A results.json of `sfumato evaluate` as a Markdown table.

python recipes/table.py runs/hippocampus-results/results.json
"""

import json
import sys
from pathlib import Path

METRICS = ("auroc", "auprc", "aurc", "eaurc", "augrc", "ece", "brier", "nll")


def number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}" if abs(value) >= 0.02 else f"{value:.5f}"


def span(interval: dict) -> str:
    return f"{number(interval['mean'])} [{number(interval['low'])}, {number(interval['high'])}]"


def lines(results: dict) -> list[str]:
    dice = results["dice"]
    found = [
        f"{results['cases']} {results['split']} cases of {results['patients']} patients. Mean and 95 % interval over "
        "patients of the mean over cases.",
        "",
        f"Dice {span(dice['mean'])} ("
        + ", ".join(f"{name} {span(value)}" for name, value in dice["per_class"].items())
        + f"); voxels whose probability prefers another label: {dice['relabelled_voxels']}.",
        "",
        f"| region | metric | softmax entropy | {results['method']} | paired difference | pooled: entropy | pooled |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for region, table in results["regions"].items():
        for metric in METRICS:
            case, pooled = table["per_case"][metric], table["pooled"]
            found.append(
                f"| {region} | {metric.upper()} | {span(case['entropy'])} | {span(case['method'])} "
                f"| {span(table['method_minus_entropy'][metric])} | {number(pooled['entropy'][metric])} "
                f"| {number(pooled['method'][metric])} |"
            )
    level = results["case_level"]
    found += [
        "",
        f"Case level ({level['score']} score against 1 - Dice): Spearman {number(level['spearman'])}, AURC "
        f"{number(level['aurc'])} (at random {number(level['aurc_at_random'])}).",
    ]
    if "decision" in level:
        rule = level["decision"]
        found.append(
            f"Decision: {rule['coverage']:.0%} of the cases accepted with mean 1 - Dice "
            f"{number(rule['risk_of_accepted'])} (wanted {number(rule['target_risk'])}), the others "
            f"{number(rule['risk_of_reviewed'])}."
        )
    return found


if __name__ == "__main__":
    print("\n".join(lines(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
