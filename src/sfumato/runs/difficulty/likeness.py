"""How unlike the reference a case looks, and how much like a damaged copy: the same whoever is scored beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...methods.sample_difficulty.damage import DamageDetector, Lessons, cross_fitted
from ...methods.sample_difficulty.neighbours import Ruler, atypicality, neighbour_distances
from .reference import Blocks, Copies, Reference
from .table import ERROR, UNDEFINED, Row

NEIGHBOURS = 5
LEAST_TEACHERS = 2
"""Cases with copies that damage can be learnt from."""
UNKNOWN = {"neighbour_distance": UNDEFINED, "atypicality": UNDEFINED, "damage": UNDEFINED, "damage_kind": ""}


def add_likeness(rows: Sequence[Row], reference: Reference) -> None:
    """Fill the columns of `UNKNOWN`. A case of the reference, known by its image's bytes, is not its own neighbour.

    Args:
        rows: with descriptors, but for those of status `error`.
        reference: whose blocks and copies they are measured against.
    """
    for row in rows:
        row |= UNKNOWN
    described = [row for row in rows if row["status"] != ERROR]
    if not described or not reference.hashes:
        return
    place = {digest: i for i, digest in enumerate(reference.hashes)}
    strangers = [row for row in described if row["sha256"] not in place]
    position = {row["case"]: len(place) + i for i, row in enumerate(strangers)}
    cases = _with(reference.blocks, strangers)
    columns = _unlike(reference, cases) | _damage(reference, cases)
    for row in described:
        at = place.get(row["sha256"], position.get(row["case"], 0))
        row |= {name: values[at] for name, values in columns.items()}


def _with(members: Blocks, strangers: Sequence[Row]) -> Blocks:
    """The reference's cases, then the others."""
    if not strangers:
        return members
    return tuple(np.concatenate(pair) for pair in zip(members, blocks_of(strangers), strict=True))


def _unlike(reference: Reference, cases: Blocks) -> dict[str, list[float]]:
    count = len(reference.hashes)
    standardised = Ruler.of(reference.blocks).standardised(cases)
    members, strangers = standardised[:count], standardised[count:]
    among = neighbour_distances(members, neighbours=NEIGHBOURS)
    others = neighbour_distances(strangers, members, NEIGHBOURS)
    return {
        "neighbour_distance": [*among.tolist(), *others.tolist()],
        "atypicality": atypicality(standardised).tolist(),
    }


def _damage(reference: Reference, cases: Blocks) -> dict[str, list[Any]]:
    """Who has copies is judged by what the others' copies taught, all others by what all copies taught."""
    copies, teachers = reference.copies, np.unique(reference.copies.owners)
    if len(teachers) < LEAST_TEACHERS:
        return {}
    owners = np.searchsorted(teachers, copies.owners)
    lessons = Lessons([b[teachers] for b in reference.blocks], copies.blocks, copies.kinds, owners)
    damage, kinds = DamageDetector.fit(lessons)(cases)
    for teacher, value, kind in zip(teachers, *cross_fitted(lessons), strict=True):
        damage[teacher], kinds[teacher] = value, kind
    return {"damage": damage.tolist(), "damage_kind": kinds}


def blocks_of(rows: Sequence[Row]) -> Blocks:
    """Descriptors and qualities of the rows, (cases, numbers) each."""
    kinds = (("descriptor", np.float32), ("quality", np.float64))
    return tuple(
        np.array([row[name] for row in rows], kind).reshape(len(rows), -1) for name, kind in kinds if rows
    )


def copies_of(rows: Sequence[Row]) -> Copies:
    """The damaged copies that the rows hold."""
    found = [
        (position, *copy)
        for position, row in enumerate(rows)
        for copy in zip(row["copy_kinds"], row["copy_descriptors"], row["copy_qualities"], strict=True)
    ]
    if not found:
        return Copies()
    owners, kinds, descriptors, qualities = zip(*found, strict=True)
    return Copies(kinds, np.array(owners, np.int64), (np.array(descriptors, np.float32), np.array(qualities)))
