"""`sfumato difficulty filter`: an index in, a splits file without the hardest training cases out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...datasets import SPLIT_NAMES
from ...errors import ConfigError
from ..files import write_text
from .decisions import Decision, FilterRule, decide, decision_table
from .gallery import read_index
from .split_files import SplitFile, read_split_file
from .table import Row

NNUNET_NAME = "splits_final.json"
DECISIONS = ".decisions.csv"


@dataclass(frozen=True)
class FilterSummary:
    """What a filter did, or would do.

    Args:
        decisions: on the training cases, by fold; one fold but for nnU-Net's file.
        kept: training cases that stay, by fold.
        total: training cases there were, by fold.
        unknown: training cases that the index does not have; they stay.
        written: files written; empty on a trial.
        backup: what the splits file held before, where it was overwritten.
    """

    decisions: Mapping[int, tuple[Decision, ...]]
    kept: tuple[int, ...]
    total: tuple[int, ...]
    unknown: tuple[str, ...]
    written: tuple[Path, ...] = ()
    backup: Path | None = None

    @property
    def kept_share(self) -> float:
        """Share of the training cases that stay, over all folds."""
        return sum(self.kept) / sum(self.total)


def filter_index(
    index: Path,
    to: Path,
    rule: FilterRule,
    splits_file: Path | None = None,
    dry_run: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> FilterSummary:
    """Leave the hardest training cases out; calibration, validation and test cases are never touched.

    Quantiles are taken within each fold's training list.

    Args:
        index: of `sfumato difficulty score`.
        to: `.csv` for the decisions alone; else a splits file, ours or nnU-Net's, with the decisions beside it.
        rule: how cases are chosen.
        splits_file: the splits to shorten; by default `to` itself where it exists, else those the index knows.
        dry_run: decide, write nothing.
        say: receives warnings.

    Raises:
        ConfigError: a rule or a name of `to` that does not fit.
        DatasetError: splits that cannot be read, or that nothing would be left of.
        StorageError: an index that cannot be read.
    """
    if to.suffix not in (".csv", ".json"):
        raise ConfigError(
            f"--to {to}: expected a name ending in .json (splits) or .csv (the decisions alone)."
        )
    if rule.policy == "pairs" and to.suffix == ".json":
        raise ConfigError(
            "--policy pairs leaves out classes, not cases, which no splits file can say; give a .csv."
        )
    rows = {row["case"]: row for row in read_index(index)}
    source = _source(rows, to, splits_file, say)
    decisions = {
        fold: tuple(decide([rows[name] for name in names if name in rows], rule, say))
        for fold, names in enumerate(source.training)
    }
    shorter = source.with_training([_staying(n, decisions[f]) for f, n in enumerate(source.training)])
    table = to if to.suffix == ".csv" else to.with_suffix(DECISIONS)
    summary = FilterSummary(
        decisions,
        tuple(len(names) for names in shorter.training),
        tuple(len(names) for names in source.training),
        tuple(dict.fromkeys(name for names in source.training for name in names if name not in rows)),
    )
    if dry_run:
        return summary
    to.parent.mkdir(parents=True, exist_ok=True)
    backup = shorter.write(to) if to.suffix == ".json" else None
    write_text(table, decision_table(decisions))
    written = (to,) if table == to else (to, table)
    return replace(summary, written=written, backup=backup)


def _staying(names: Sequence[str], decisions: Sequence[Decision]) -> list[str]:
    gone = {decision.case for decision in decisions if not decision.kept and not decision.class_}
    return [name for name in names if name not in gone]


def _source(
    rows: Mapping[str, Row], to: Path, splits_file: Path | None, say: Callable[[str], None]
) -> SplitFile:
    if splits_file is not None:
        return read_split_file(splits_file)
    if to.suffix == ".json" and to.exists():
        if to.with_suffix(DECISIONS).exists():
            say(
                f"{to} was filtered before and would lose more; give the original as --splits to start from that."
            )
        return read_split_file(to)
    if to.name == NNUNET_NAME:
        raise ConfigError(
            f"{to}: there is no such file to shorten; expected the one nnU-Net wrote, or name it as --splits."
        )
    return SplitFile(_known_splits(list(rows.values())), "the index")


def _known_splits(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The splits an index knows; where it knows none, every case trains."""
    if not any(row["split"] for row in rows):
        return {"train": [row["case"] for row in rows], "calibration": [], "test": []}
    return {part: [row["case"] for row in rows if row["split"] == part] for part in SPLIT_NAMES}
