"""`sfumato difficulty filter`."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..shared import JsonOption, emit, say

if TYPE_CHECKING:
    from ...runs.difficulty.filter import FilterSummary

SHOWN = 40
"""Rows of the table; the decisions file holds all of them."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("filter")(filter_cases)


def filter_cases(
    index: Annotated[Path, typer.Argument(help="An index of `sfumato difficulty score`.")],
    to: Annotated[
        Path,
        typer.Option(
            "--to", help="splits.json, nnU-Net's splits_final.json, or a .csv of the decisions alone."
        ),
    ],
    by: Annotated[
        str, typer.Option(help="difficulty, auv, image, label, neighbours, or another column of numbers.")
    ] = "difficulty",
    keep: Annotated[str, typer.Option(help="Share of the training cases to keep.")] = "0.95",
    drop: Annotated[
        int | None, typer.Option(help="Number of training cases to drop, instead of --keep.")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="global (by case), or by class: any, all, target, pairs.")
    ] = "global",
    classes: Annotated[str, typer.Option(help="Classes of --policy target, by commas.")] = "",
    splits: Annotated[
        Path | None,
        typer.Option("--splits", help="The splits to shorten, ours or nnU-Net's; --to itself if it exists."),
    ] = None,
    stratify: Annotated[
        str, typer.Option(help="Filter within each value of this column, such as spacing.")
    ] = "",
    by_patient: Annotated[
        bool,
        typer.Option("--by-patient/--by-case", help="A patient goes only when each of their cases would."),
    ] = True,
    exact: Annotated[
        bool, typer.Option("--exact", help="Break ties at the limit, so that the count is exact.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, write nothing.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Leave the hardest training cases out of a splits file; other cases are never touched.

    Writes the decision on every training case, with its reason, beside the splits.

    Example: sfumato difficulty filter index.parquet --keep 0.95 --to splits.json
    """
    from ...runs.difficulty.decisions import FilterRule
    from ...runs.difficulty.filter import filter_index

    chosen = tuple(c.strip() for c in classes.split(",") if c.strip())
    rule = FilterRule(by, keep, drop, policy, chosen, stratify, by_patient, exact)
    summary = filter_index(index, to, rule, splits, dry_run, say)
    if json_output:
        emit(_plain(summary))
    else:
        _show(summary, dry_run)


def _plain(summary: FilterSummary) -> dict:
    from ...runs.plain import plain

    return plain(
        {
            "kept": summary.kept,
            "total": summary.total,
            "kept_share": summary.kept_share,
            "unknown": summary.unknown,
            "written": [str(path) for path in summary.written],
            "backup": str(summary.backup) if summary.backup else None,
            "dropped": [
                {"fold": fold, **asdict(decision)}
                for fold, decisions in summary.decisions.items()
                for decision in decisions
                if not decision.kept
            ],
        }
    )


def _show(summary: FilterSummary, dry_run: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ...report.wording import score

    console, folds = Console(), len(summary.decisions) > 1
    gone = [(f, d) for f, made in summary.decisions.items() for d in made if not d.kept]
    gone.sort(key=lambda pair: (pair[0], bool(pair[1].flagged), -pair[1].value, pair[1].case))
    for title, chosen in (
        ("would be left out" if dry_run else "left out", [p for p in gone if not p[1].flagged]),
        ("flagged: look at these first", [p for p in gone if p[1].flagged]),
    ):
        if not chosen:
            continue
        classes = any(decision.class_ for _, decision in chosen)
        heads = (["fold"] if folds else []) + ["case"] + (["class"] if classes else []) + ["value", "reason"]
        table = Table(*heads, title=f"{len(chosen)} {title}", title_justify="left")
        for fold, decision in chosen[:SHOWN]:
            value = score(decision.value) if math.isfinite(decision.value) else "-"
            cells = ([str(fold)] if folds else []) + [decision.case] + ([decision.class_] if classes else [])
            # Text, as names and sentences may hold square brackets.
            table.add_row(*(Text(cell) for cell in (*cells, value, decision.reason)))
        console.print(table)
        if len(chosen) > SHOWN:
            console.print(f"and {len(chosen) - SHOWN} more")
    for fold, (kept, total) in enumerate(zip(summary.kept, summary.total, strict=True)):
        console.print(
            f"{f'fold {fold}: ' if folds else ''}{kept} of {total} training cases stay ({kept / total:.1%})"
        )
    if summary.unknown:
        say(
            f"{len(summary.unknown)} training cases are not in the index and stay, such as {summary.unknown[0]}"
        )
    if summary.backup:
        say(f"what was there before: {summary.backup}")
    for path in summary.written:
        say(f"wrote {path}")
