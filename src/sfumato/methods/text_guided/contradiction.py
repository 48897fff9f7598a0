"""Whether a mask lies where its sentence says, and whether the image or the sentence put it there.

What a sentence says of position, number and size is measured on the mask with the sentence and on the mask without:
where the first disagrees, the network did not follow; where the second alone does, the sentence decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import center_of_mass, find_objects, label

SLACK = 0.05
"""Share of a side by which a middle may lie beyond the half that is named. Of the true masks of 126 frames of
CVC-ClinicDB with one position each, one is told off; of 85 with left and right exchanged, 68 are."""
CENTRE = (0.25, 0.75)
PART = 0.05
"""Parts smaller than this share of the largest are specks and count for no number or place."""
OPPOSITES = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
Claims = Mapping[str, Set[str]]
"""Attribute (`position`, `number`, `size`; others are not judged) -> what a sentence says of it."""


@dataclass(frozen=True)
class MaskFacts:
    """What can be measured of a mask.

    Args:
        places: middle (row, column) of every part, each from 0 (top, left) to 1; largest part first.
        middle: of the whole mask; None for an empty one.
        share: of the grid that is covered, in [0, 1].
    """

    places: tuple[tuple[float, float], ...]
    middle: tuple[float, float] | None
    share: float


@dataclass(frozen=True)
class Contradiction:
    """How sentence, mask with the sentence and mask without it go together.

    Args:
        score: how far both masks are apart in what the sentence speaks of, in [0, 1]: the largest of the distances
            along the named axes as shares of a side, the relative difference in number and that in size; 1 where one
            of the masks is empty, 0 where both are or the sentence says nothing that is measured.
        broken: what the sentence says and the mask does not keep, such as `left`.
        followed: what the mask keeps and the mask without the sentence does not.
        warnings: one sentence each for people.
    """

    score: float
    broken: tuple[str, ...]
    followed: tuple[str, ...]
    warnings: tuple[str, ...]


def find_contradiction(
    claims: Claims,
    mask: np.ndarray,
    without: np.ndarray,
    mirrored: bool = False,
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> Contradiction:
    """Compare what a sentence says with the masks that came out with it and without it.

    Args:
        claims: of the sentence, such as {"position": {"left"}, "number": {"one"}, "size": {"small"}}; positions are
            left, right, top, bottom and centre, numbers are words, sizes are those of `sizes`.
        mask: of the foreground, with the sentence, (..., rows, columns): the last axes run down and to the right.
        without: the same without a sentence.
        mirrored: the sentence's left is the image's right, as in radiographs.
        sizes: share of the grid, from and to, that each word stood for in training; words that are not in it are not
            judged.

    Example:
        >>> left, right = np.zeros((2, 4, 8), bool)
        >>> left[1:3, 1:3] = right[1:3, 5:7] = True
        >>> find_contradiction({"position": {"left"}}, right, right).warnings
        ('The sentence says left, but the mask lies 75% across and 50% down the image.',)
        >>> found = find_contradiction({"position": {"left"}}, left, right)
        >>> found.followed, found.score
        (('left',), 0.5)
    """
    told = _mirrored(claims) if mirrored else claims
    facts, plain, ranges = mask_facts(mask), mask_facts(without), sizes or {}
    named = {key: word for key, word in _said(told, claims, mirrored) if _judged(key, told, ranges)}
    kept = {key: _holds(key, facts, told, ranges) for key in named}
    alone = {key: _holds(key, plain, told, ranges) for key in named}
    broken = tuple(word for key, word in named.items() if not kept[key])
    followed = tuple(word for key, word in named.items() if kept[key] and not alone[key])
    score = _apart(told, facts, plain)
    return Contradiction(score, broken, followed, _warnings(broken, followed, facts, plain))


def mask_facts(mask: np.ndarray) -> MaskFacts:
    """Measure a mask (..., rows, columns); parts are voxels that share a face.

    Example:
        >>> mask_facts(np.array([[0, 0, 0, 0], [0, 0, 0, 1]]) > 0).middle
        (0.75, 0.875)
    """
    if not mask.any():
        return MaskFacts((), None, 0.0)
    parts = np.zeros(mask.shape, np.int32)
    label(mask, output=parts)
    areas = np.bincount(parts.ravel())[1:]
    shown = [i for i in np.argsort(-areas, kind="stable") if areas[i] >= PART * areas.max()]
    boxes = find_objects(parts)
    places = tuple(_middle(parts[boxes[i]] == i + 1, boxes[i], mask.shape) for i in shown)
    whole = tuple(slice(0, n) for n in mask.shape)
    return MaskFacts(places, _middle(mask, whole, mask.shape), float(mask.mean()))


def _middle(part: np.ndarray, box: Sequence[slice], shape: Sequence[int]) -> tuple[float, float]:
    centre = np.array(center_of_mass(part)) + [b.start for b in box]
    row, column = (centre[-2:] + 0.5) / shape[-2:]
    return round(float(row), 6), round(float(column), 6)


def size_ranges(cases: Sequence[tuple[Claims, float]], least: int = 10) -> dict[str, tuple[float, float]]:
    """What size words stood for: the shares of the grid between percentiles 2 and 98 of the masks they were said of.

    Args:
        cases: claims of a sentence, and the share of the grid that the true mask covers.
        least: cases a word needs to be judged at all.
    """
    shares: dict[str, list[float]] = {}
    for claims, share in cases:
        said = claims.get("size", frozenset())
        if len(said) == 1:  # of several sizes none can be told from the whole mask
            shares.setdefault(next(iter(said)), []).append(share)
    found = {
        word: np.quantile(values, (0.02, 0.98)) for word, values in shares.items() if len(values) >= least
    }
    return {word: (float(low), float(high)) for word, (low, high) in sorted(found.items())}


def _mirrored(claims: Claims) -> Claims:
    swap = {"left": "right", "right": "left"}
    said = frozenset(swap.get(word, word) for word in claims.get("position", frozenset()))
    return {**claims, **({"position": said} if said else {})}


def _said(told: Claims, claims: Claims, mirrored: bool) -> list[tuple[str, str]]:
    """What is judged, on the image's sides, and how the sentence words it."""
    swap = {"left": "right", "right": "left"} if mirrored else {}
    positions = [(word, swap.get(word, word)) for word in sorted(told.get("position", frozenset()))]
    others = [(w, w) for key in ("number", "size") for w in sorted(claims.get(key, frozenset()))]
    return positions + others


def _judged(word: str, claims: Claims, sizes: Mapping[str, tuple[float, float]]) -> bool:
    if word == "centre":  # "middle left" and "top centre" leave the other axis alone
        return claims["position"] == {"centre"}
    if word in OPPOSITES:
        return True
    if word in NUMBERS:  # "one small and two large" is a sum that needs grammar
        return len(claims["number"]) == 1
    return word in sizes and len(claims["size"]) == 1


def _holds(word: str, facts: MaskFacts, claims: Claims, sizes: Mapping[str, tuple[float, float]]) -> bool:
    if facts.middle is None:
        return False
    if word in NUMBERS:
        return len(facts.places) == NUMBERS.index(word) + 1
    if word in sizes:
        return sizes[word][0] <= facts.share <= sizes[word][1]
    if OPPOSITES.get(word) in claims["position"]:  # both sides are named: some part must lie on each
        return any(_lies(word, place) for place in facts.places)
    return _lies(word, facts.middle)


def _lies(word: str, place: tuple[float, float]) -> bool:
    if word == "centre":
        return all(CENTRE[0] <= at <= CENTRE[1] for at in place)
    at = place[1] if word in ("left", "right") else place[0]
    return at <= 0.5 + SLACK if word in ("left", "top") else at >= 0.5 - SLACK


def _apart(claims: Claims, facts: MaskFacts, plain: MaskFacts) -> float:
    if not any(claims.get(key) for key in ("position", "number", "size")):
        return 0.0
    if facts.middle is None or plain.middle is None:
        return 0.0 if facts.middle == plain.middle else 1.0
    positions, gaps = claims.get("position", frozenset()), [0.0]
    if positions & {"top", "bottom", "centre"}:
        gaps.append(abs(facts.middle[0] - plain.middle[0]))
    if positions & {"left", "right", "centre"}:
        gaps.append(abs(facts.middle[1] - plain.middle[1]))
    for key, first, second in (
        ("number", len(facts.places), len(plain.places)),
        ("size", facts.share, plain.share),
    ):
        if claims.get(key):
            gaps.append(abs(first - second) / max(first, second))
    return max(gaps)


def _warnings(
    broken: Sequence[str], followed: Sequence[str], facts: MaskFacts, plain: MaskFacts
) -> tuple[str, ...]:
    said = []
    if broken:
        said.append(f"The sentence says {', '.join(broken)}, but {_describe(facts, broken)}.")
    if followed:
        said.append(
            f"Without the sentence {_describe(plain, followed)}: that it is {', '.join(followed)} was decided by the "
            "sentence, not by the image."
        )
    return tuple(said)


def _describe(facts: MaskFacts, words: Sequence[str]) -> str:
    if facts.middle is None:
        return "nothing is segmented"
    said = []
    if any(word in OPPOSITES or word == "centre" for word in words):
        said.append(f"lies {facts.middle[1]:.0%} across and {facts.middle[0]:.0%} down the image")
    if any(word in NUMBERS for word in words):
        said.append(f"has {len(facts.places)} part{'s' if len(facts.places) > 1 else ''}")
    if not said or any(word not in (*OPPOSITES, "centre", *NUMBERS) for word in words):
        said.append(f"covers {facts.share:.1%} of the image")
    return "the mask " + " and ".join(said)
