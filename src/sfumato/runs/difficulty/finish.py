"""From stored rows to the index: everything that depends on other cases is computed here, against one reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from ...methods.sample_difficulty.combined import combine
from ...methods.sample_difficulty.range import ReferenceRange
from ...methods.sample_difficulty.spectrum import ClassScale, case_scale
from .case import SCALE
from .config import parse_aggregate
from .likeness import add_likeness, blocks_of, copies_of
from .reference import Reference, fit_ranges
from .size_residual import SIZES, add_size_residual, size_columns
from .table import ERROR, INDEX_COLUMNS, OK, UNDEFINED, Row


@dataclass(frozen=True)
class View:
    """How stored scales become one number per case; applied when the index is made, so it can be changed later.

    Args:
        convention: `energy` or `amplitude`.
        aggregate: of the class scales, see `parse_aggregate`.
        range_method: `minmax` or `percentile`, of the range that AUV is measured in.
    """

    convention: str = "energy"
    aggregate: str = "sum"
    range_method: Literal["minmax", "percentile"] = "minmax"


def finish(
    raw: Mapping[str, Row],
    view: View,
    reference: Reference | None = None,
    prototypes: Mapping[str, Any] | None = None,
) -> tuple[list[Row], Reference]:
    """The rows of the index, sorted by case, and the reference they were measured against.

    Args:
        raw: stored row of each case.
        view: convention and aggregate.
        reference: stored cases to measure against; by default the training cases among these (all, where no splits
            are known) whose scale is defined.
        prototypes: kept in the reference.

    Raises:
        ConfigError: a reference that was made in another way.
    """
    rows = [dict(raw[name]) for name in sorted(raw)]
    for row in rows:
        row |= _scales(row, view) | {"convention": view.convention, "aggregate": view.aggregate}
    identity, members = _identity(rows, view), _members(rows)
    own = reference is None
    if reference is None:
        reference = _own_reference(members, view, identity, prototypes or {})
    elif identity:
        reference.check(identity)
    _add_auv(rows, reference.ranges)
    add_likeness(rows, reference)
    if own:
        # What is combined includes how the members stand to each other, which only now is known.
        reference = replace(reference, columns=numeric_columns(members) | size_columns(members))
    add_size_residual(rows, {name: reference.columns[name] for name in SIZES})
    _add_combined(rows, reference)
    _add_duplicates(rows)
    return [{name: row[name] for name in INDEX_COLUMNS} for row in rows], reference


def _scales(row: Row, view: View) -> Row:
    """Scale of the case in every convention, and its status in the chosen one."""
    if row["status"] == ERROR:
        return {"energy": UNDEFINED, "amplitude": UNDEFINED, "row_centred": UNDEFINED}
    scales, aggregate = class_scales_of(row), parse_aggregate(view.aggregate)
    found = {c: case_scale(scales, aggregate, c) for c in ("energy", "amplitude", "row_centred")}
    return {c: value for c, (value, _) in found.items()} | {"status": found[view.convention][1]}


def class_scales_of(row: Row) -> list[ClassScale]:
    """The class scales a row holds."""
    stored = zip(*(row[column] for column in SCALE), strict=True)
    return [ClassScale(**dict(zip(SCALE.values(), values, strict=True))) for values in stored]


def _identity(rows: Sequence[Row], view: View) -> dict[str, Any]:
    scored = next((row for row in rows if row["status"] != ERROR), None)
    if scored is None:
        return {}
    return {
        "extractor": scored["extractor"],
        "maps": scored["maps"],
        "convention": view.convention,
        "aggregate": view.aggregate,
    }


def _members(rows: Sequence[Row]) -> list[Row]:
    """The training cases whose scale is defined; of all cases where no splits are known."""
    training = [row for row in rows if row["split"] == "train"] or rows
    return [row for row in training if row["status"] == OK]


def _own_reference(
    members: Sequence[Row], view: View, identity: Mapping[str, Any], prototypes: Mapping[str, Any]
) -> Reference:
    """All of a reference but its columns."""
    ranges = fit_ranges(
        [row["axis"] for row in members],
        np.array([row[row["convention"]] for row in members]),
        [_class_values(row) for row in members],
        view.range_method,
    )
    hashes = tuple(row["sha256"] for row in members)
    return Reference(identity, ranges, hashes, blocks_of(members), {}, copies_of(members), prototypes)


def _class_values(row: Row) -> dict[str, float]:
    values = zip(row["classes"], row["class_status"], row[f"class_{row['convention']}"], strict=True)
    return {name: value for name, status, value in values if status == OK}


def _add_auv(rows: Sequence[Row], ranges: Mapping[str, ReferenceRange]) -> None:
    """AUV of cases and classes; 1, the hardest, where a map has no scale, undefined where there is no map."""
    for row in rows:
        value, axis = row[row["convention"]], row["axis"]
        row["auv"] = UNDEFINED if row["status"] == ERROR else _auv(ranges.get(axis), value)
        own = _class_values(row)
        row["class_auv"] = [
            _auv(ranges.get(f"{axis}/{name}"), own.get(name, UNDEFINED)) for name in row["classes"]
        ]


def _auv(reference: ReferenceRange | None, scale: float) -> float:
    if reference is None:
        return UNDEFINED
    return float(reference(np.array([scale]))[0])


COMBINED = (
    "auv",
    "neighbour_distance",
    "atypicality",
    "damage",
    "boundary_contrast",
    "boundary_alignment",
    "disagreement",
    "worst_disagreement",
    "surprise",
    "softmin",
    "confident_share",
    "size_log_ratio",
)
"""Columns that the combined scores may draw on."""


def numeric_columns(rows: Sequence[Row]) -> dict[str, np.ndarray]:
    """What is combined, (cases,) float64 each."""
    return {name: np.array([row[name] for row in rows], float) for name in COMBINED}


COMBINATIONS = {"image": "image_score", "label": "label_score", "difficulty": "difficulty"}
"""What `combine` gives -> column."""


def _add_combined(rows: Sequence[Row], reference: Reference) -> None:
    for row in rows:
        row |= dict.fromkeys(COMBINATIONS.values(), UNDEFINED)
    scored = [row for row in rows if row["status"] != ERROR]
    if not scored or not reference.columns:
        return
    found = combine(numeric_columns(scored), reference.columns)
    for part, name in COMBINATIONS.items():
        for row, value in zip(scored, found[part], strict=True):
            row[name] = float(value)


def _add_duplicates(rows: Sequence[Row]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        owner = first.setdefault(row["sha256"], row["case"]) if row["sha256"] else row["case"]
        row["duplicate_of"] = "" if owner == row["case"] else owner
