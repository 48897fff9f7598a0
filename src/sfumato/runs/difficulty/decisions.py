"""Which training cases stay, by exact counts, and the reason for each that goes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np

from ...errors import ConfigError, UnknownNameError
from ...methods.sample_difficulty.filtering import Filtered, class_filter, exact_share, quantile_filter
from ...report.wording import score
from .reasons import STATUSES, reasons_of
from .table import BULKY_COLUMNS, INDEX_COLUMNS, NUMBER, OK, Row

BY = {
    "image": "image_score",
    "label": "label_score",
    "neighbours": "neighbour_distance",
}
"""Short names of columns; every column of numbers may be named itself."""
POLICIES = ("global", "any", "all", "target", "pairs")


@dataclass(frozen=True)
class FilterRule:
    """How cases are chosen; the defaults are those of the commands.

    Args:
        by: column, or a short name of `BY`; only for the policy `global`, the others go by the AUV of classes.
        keep: share to keep, as a decimal or a ratio.
        drop: number of cases to drop instead of a share.
        policy: `global`, or a policy of `sfumato.methods.sample_difficulty.filtering.class_filter`.
        classes: for `target`.
        stratify: column; cases of one value are filtered among themselves, so that no kind of image vanishes.
        by_patient: a patient goes only when each of their cases would.
        exact: ties at the threshold are broken by a hash of the names, so that exactly the wanted number stays.
    """

    by: str = "difficulty"
    keep: str = "0.95"
    drop: int | None = None
    policy: str = "global"
    classes: tuple[str, ...] = ()
    stratify: str = ""
    by_patient: bool = True
    exact: bool = False

    def __post_init__(self):
        if self.policy not in POLICIES:
            raise UnknownNameError("policy", self.policy, POLICIES)
        numbers = [name for name, kind in INDEX_COLUMNS.items() if kind == NUMBER]
        if self.column not in numbers:
            raise UnknownNameError("column to filter by", self.by, [*BY, *numbers])
        strata = [name for name in INDEX_COLUMNS if name not in BULKY_COLUMNS]
        if self.stratify and self.stratify not in strata:
            raise UnknownNameError("column to stratify by", self.stratify, strata)
        exact_share(self.keep)

    @property
    def column(self) -> str:
        """The column to filter by."""
        return BY.get(self.by, self.by)

    def share(self, count: int) -> Fraction:
        """The share to keep of so many cases.

        Raises:
            ConfigError: more to drop than there are.
        """
        if self.drop is None:
            return exact_share(self.keep)
        if not 0 <= self.drop < count:
            raise ConfigError(
                f"--drop {self.drop}, expected from 0 to {count - 1}, as {count} cases are judged."
            )
        return Fraction(count - self.drop, count)


@dataclass(frozen=True)
class Decision:
    """What happens to one case (or, with the policy `pairs`, to one class of it).

    Args:
        case: its name.
        patient: whose it is.
        class_: of the case; empty where the case is decided on as a whole.
        value: that decided; infinite for flagged cases, NaN where there is none.
        threshold: largest value that stays.
        kept: whether it stays.
        flagged: its status where that is not `ok`.
        reason: a sentence; empty where there is nothing to say.
    """

    case: str
    patient: str
    class_: str
    value: float
    threshold: float
    kept: bool
    flagged: str
    reason: str


def decide(
    rows: Sequence[Row], rule: FilterRule, say: Callable[[str], None] = lambda line: None
) -> list[Decision]:
    """Decide on the training cases of one fold, in their order.

    Flagged cases rank after all others. A sound case whose value is undefined is kept and does not count.

    Args:
        rows: of an index.
        rule: how.
        say: receives warnings.

    Raises:
        ConfigError: a rule that does not fit these cases.
    """
    strata: dict[str, list[Row]] = {}
    for row in rows:
        strata.setdefault(str(row[rule.stratify]) if rule.stratify else "", []).append(row)
    why = {row["case"]: reasons for row, reasons in zip(rows, reasons_of(rows), strict=True)}
    made: dict[str, list[Decision]] = {}
    for name, stratum in strata.items():
        for decision in _stratum(
            stratum, rule, why, lambda line, name=name: say(f"{name}: {line}" if name else line)
        ):
            made.setdefault(decision.case, []).append(decision)
    return [decision for row in rows for decision in made[row["case"]]]


def _stratum(
    rows: Sequence[Row], rule: FilterRule, why: Mapping[str, tuple[str, ...]], say: Callable[[str], None]
) -> list[Decision]:
    judged = [
        row for row in rows if rule.policy != "global" or _flagged(row) or math.isfinite(row[rule.column])
    ]
    if not any(row["status"] == OK for row in judged):
        raise ConfigError(
            f"no case has a value in {rule.column!r}, so nothing can be chosen by it; choose another --by, or score "
            "with what it needs."
        )
    filtered = _filtered(judged, rule)
    if rule.by_patient:
        filtered = filtered.by_patient([row["patient"] for row in judged])
    if filtered.warning:
        say(filtered.warning)
    if filtered.pairs is not None:
        return _pairs(judged, filtered)
    place = {row["case"]: i for i, row in enumerate(judged)}
    threshold = filtered.thresholds.get("", math.nan)
    found = []
    for row in rows:
        kept = bool(filtered.kept[place[row["case"]]]) if row["case"] in place else True
        value = _value(row, rule) if rule.policy == "global" else row["auv"]
        reason = _reason(row, rule, kept, value, threshold, why[row["case"]])
        flag = "" if row["status"] == OK else row["status"]
        found.append(Decision(row["case"], row["patient"], "", value, threshold, kept, flag, reason))
    return found


def _flagged(row: Row) -> bool:
    return row["status"] != OK


def _value(row: Row, rule: FilterRule) -> float:
    return math.inf if _flagged(row) else float(row[rule.column])


def _filtered(rows: Sequence[Row], rule: FilterRule) -> Filtered:
    share = rule.share(len(rows))
    if rule.policy == "global":
        values = [_value(row, rule) for row in rows]
        ties = "strict_k" if rule.exact else "keep"
        return quantile_filter(values, share, ties, [row["case"] for row in rows])
    return class_filter(_class_values(rows), share, rule.policy, rule.classes)  # type: ignore[arg-type]  # checked


def _class_values(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """AUV of each class in each case: NaN where the class is absent, infinite where the case is flagged."""
    names = list(dict.fromkeys(name for row in rows for name in row["classes"]))
    values = {name: np.full(len(rows), np.nan) for name in names}
    for i, row in enumerate(rows):
        own = dict(zip(row["classes"], zip(row["class_status"], row["class_auv"], strict=True), strict=True))
        for name in names:
            if _flagged(row):
                values[name][i] = np.inf
            elif own.get(name, ("", 0.0))[0] == OK:
                values[name][i] = own[name][1]
    return values


def _pairs(rows: Sequence[Row], filtered: Filtered) -> list[Decision]:
    values, pairs = _class_values(rows), filtered.pairs or {}
    found = []
    for i, row in enumerate(rows):
        for name, kept in pairs.items():
            value, limit = float(values[name][i]), filtered.thresholds[name]
            reason = (
                ""
                if kept[i]
                else f"AUV of {name} above {score(limit)}: leave the class out of the loss here."
            )
            flag = "" if row["status"] == OK else row["status"]
            if not math.isnan(value):
                found.append(
                    Decision(row["case"], row["patient"], name, value, limit, bool(kept[i]), flag, reason)
                )
    return found


def _reason(
    row: Row, rule: FilterRule, kept: bool, value: float, threshold: float, why: Sequence[str]
) -> str:
    if _flagged(row):
        return str(row["message"]) or STATUSES.get(row["status"], str(row["status"]))
    if math.isnan(value):
        return f"No value in {rule.column}, so it is kept."
    if rule.policy != "global":
        return "" if kept else " ".join([f"Its classes fail by the policy {rule.policy}.", *why])
    if kept:
        above = value > threshold
        return "Above the limit; kept as another case of the patient stays." if above else ""
    return " ".join([f"{rule.column} {score(value)} against a limit of {score(threshold)}.", *why])


def decision_table(decisions: Mapping[int, Sequence[Decision]]) -> str:
    """CSV of the decisions, by fold."""
    names = ["fold", *(f.name.rstrip("_") for f in fields(Decision))]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for fold, made in decisions.items():
        writer.writerows([fold, *(getattr(decision, f.name) for f in fields(Decision))] for decision in made)
    return buffer.getvalue()
