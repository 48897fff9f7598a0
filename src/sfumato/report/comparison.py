"""The page of a comparison: tables, differences, curves, stability, shift and cost in one file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .comparison_plots import difference_plot, legend_plot, lines_plot, severity_plot
from .comparison_tables import (
    cases_table,
    cell,
    cost_table,
    filtered_table,
    number,
    readers_table,
    region_table,
    stability_table,
    wide,
)
from .html import Markup, join, page, picture, tag

REGIONS = {
    "near": "Within 5 voxels of the foreground",
    "boundary": "Within 2 voxels of a boundary",
    "foreground": "Foreground",
    "whole": "Whole image",
}
STYLE = Markup(
    "<style>body { max-width: 1400px; } .plots figure { max-width: 640px; } .wide { overflow-x: auto; }"
    " .wide td, .wide th { white-space: nowrap; } .best { font-weight: 700; }"
    " .span { color: #5b6470; font-size: 12px; display: block; }</style>"
)


def write_comparison(path: Path, results: Mapping[str, Any]) -> None:
    """Write the page; it needs nothing but itself.

    Args:
        path: of the HTML file.
        results: what `results.json` holds.
    """
    clean = results["conditions"]["clean"]
    title = f"Comparison on {results['data']}: {len(results['methods'])} methods"
    sections = [
        STYLE,
        tag("div", tag("h1", title), class_="head"),
        _lead(results),
        _problems(results["problems"]),
        _section("Near the foreground, beside softmax entropy", _differences(clean)),
        *(_section(name, region_table(clean, region)) for region, name in REGIONS.items()),
        _section("How stable the order is", stability_table(clean)),
        _section("Curves", _curves(clean)),
        _section("Cases", cases_table(clean, results["methods"])),
        _section("Doubtful voxels left out", _filtered(clean)),
        *([_section("Where readers disagree", readers_table(clean))] if clean["readers"] else []),
        *([_section("Under shift", _shift(results))] if len(results["conditions"]) > 1 else []),
        _section("Cost per case", cost_table(results)),
    ]
    facts = {"segmenter": results["segmenter"], "data": results["data"], "split": results["split"]}
    path.write_text(page(title, *sections, facts=facts), encoding="utf-8", newline="\n")


def _section(title: str, *content: object) -> Markup:
    return join([tag("h2", title), *content])


def _lead(results: Mapping[str, Any]) -> Markup:
    dice = results["conditions"]["clean"]["segmentation"]["dice"]["mean"]
    return tag(
        "p",
        f"{results['cases']} {results['split']} cases of {results['patients']} patients; Dice of the frozen "
        f"segmenter {number(dice['mean'])} [{number(dice['low'])}, {number(dice['high'])}]. Every method speaks "
        "about the same mistakes: voxels where the segmenter's label is wrong. Numbers are means over cases; in grey "
        f"the 95 % interval from {results['resamples']} resamples of patients. Bold: best of the column.",
    )


def _problems(problems: Sequence[str]) -> Markup:
    return join([tag("p", f"Left out: {sentence}", class_="warning") for sentence in problems])


def _differences(condition: Mapping[str, Any]) -> Markup:
    figures = []
    for metric, said in (("auroc", "AUROC"), ("aurc", "AURC"), ("ece", "ECE")):
        found = {
            label: tuple(_value(entry["difference"][metric][k]) for k in ("mean", "low", "high"))
            for label, entry in condition["regions"]["near"].items()
            if entry["difference"]
        }
        png = difference_plot(found, said, metric == "auroc")  # type: ignore[arg-type]
        figures.append(
            _figure(
                png, said, "Paired over cases; green is better, orange worse, grey not told apart from 0."
            )
        )
    return tag("div", join(figures), class_="plots")


def _value(number: float | None) -> float:
    return math.nan if number is None else number


def _figure(png: bytes, title: str, caption: str) -> Markup:
    return tag("figure", tag("h3", title), picture(png, f"{title}. {caption}"), tag("figcaption", caption))


def _curves(condition: Mapping[str, Any]) -> Markup:
    near = condition["regions"]["near"]
    risks = {n: _points(e["risk_coverage"], "coverage", "risk") for n, e in near.items()}
    bins = {n: _points(e["reliability"], "confidence", "accuracy") for n, e in near.items()}
    figures = [
        _figure(
            lines_plot(risks, "share of voxels trusted", "share of those that is wrong"),
            "Risk and coverage",
            "Near the foreground, all cases pooled; lower is better.",
        ),
        _figure(
            lines_plot(bins, "stated probability of the label", "share that is right", diagonal=True),
            "Reliability",
            "Near the foreground, all cases pooled; below the diagonal the method is too sure.",
        ),
    ]
    return tag("div", join(figures), class_="plots")


def _filtered(condition: Mapping[str, Any]) -> Markup:
    found = condition["filtered"]
    series = {n: [(float(t), _value(v)) for t, v in enumerate(e["dice"])] for n, e in found.items()}
    plot = _figure(
        lines_plot(series, "voxels are kept up to this chance of error (%)", "Dice of the voxels kept"),
        "Filtered Dice",
        "All cases pooled, mean over classes. On the right all voxels are kept; a method that knows its mistakes rises "
        "to the left.",
    )
    return join([filtered_table(condition), tag("div", plot, class_="plots")])


def _points(series: Mapping[str, Sequence[float | None]], across: str, up: str) -> list[tuple[float, float]]:
    return [(_value(x), _value(y)) for x, y in zip(series[across], series[up], strict=True)]


def _shift(results: Mapping[str, Any]) -> Markup:
    labels = list(results["methods"])
    names = list(dict.fromkeys(c.rsplit("-", 1)[0] for c in results["conditions"] if c != "clean"))
    parts: list[Markup] = []
    for metric, said in (("auroc", "AUROC of mistakes, near"), ("ece", "ECE, near")):
        figures = []
        for name in names:
            series = {
                label: {
                    int(condition.rsplit("-", 1)[1]) if condition != "clean" else 0: _value(
                        content["regions"]["near"][label]["per_case"][metric]["mean"]
                    )
                    for condition, content in results["conditions"].items()
                    if condition == "clean" or condition.rsplit("-", 1)[0] == name
                }
                for label in labels
            }
            figures.append(tag("figure", picture(severity_plot(series, name, said), f"{said} under {name}")))
        figures.append(tag("figure", picture(legend_plot(labels), "The methods' lines")))
        parts += [tag("h3", said), tag("div", join(figures), class_="plots")]
    dice = [
        [c, cell(content["segmentation"]["dice"]["mean"])] for c, content in results["conditions"].items()
    ]
    return join([*parts, wide(["images", "Dice"], dice)])
