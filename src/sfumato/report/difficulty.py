"""The page of an index of difficulty: which cases stand out, how they look, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .difficulty_plots import histogram
from .html import Markup, join, page, picture, table, tag
from .wording import score

HARDEST, EASIEST = 24, 8
LISTED = 50
"""Sentences of one kind at most; the index holds all of them."""
LEAD = (
    "A high difficulty says that a case stands out, not that it is wrong: a rare anatomy stands out as well as a "
    "damaged image or a mistaken outline. Look at a case before you leave it out. Difficulty goes by rank, from 0 to "
    "1; outlines are those of the label."
)


@dataclass(frozen=True)
class GalleryCase:
    """One case of the page.

    Args:
        name: of the case.
        difficulty: higher = look at it sooner; NaN where nothing is known.
        reasons: sentences on what is unusual, strongest first.
        scores: name -> value, for the line below the picture; NaN is left out.
        thumbnail: PNG bytes, may be empty.
        outlined: whether the picture shows the label.
        flagged: what is wrong where the case has no scale (`empty`, ...); empty otherwise.
    """

    name: str
    difficulty: float
    reasons: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)
    thumbnail: bytes = b""
    outlined: bool = False
    flagged: str = ""


@dataclass(frozen=True)
class Gallery:
    """What the page shows.

    Args:
        title: heading.
        cases: those that were scored, in any order.
        failures: one sentence per case that could not be scored.
        label_problems: one sentence per label that could not be used.
        duplicates: groups of cases whose images are the same bytes.
        distributions: heading -> values of all cases, for the histograms.
        facts: shown in the footer; no times, or equal input gives unequal bytes.
    """

    title: str
    cases: tuple[GalleryCase, ...]
    failures: tuple[str, ...] = ()
    label_problems: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    distributions: Mapping[str, Sequence[float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)


def write_gallery(path: Path, gallery: Gallery) -> None:
    """Write one HTML file that needs nothing else; equal input gives equal bytes."""
    ranked = by_difficulty(gallery.cases)
    hardest = ranked[:HARDEST]
    easiest = [case for case in reversed(ranked) if case not in hardest and not case.flagged][:EASIEST]
    content = page(
        gallery.title,
        tag("div", tag("h1", gallery.title), class_="head"),
        _summary(gallery),
        tag("p", LEAD, class_="note"),
        _sentences("Cases that could not be scored", gallery.failures),
        _sentences("Labels that could not be used", gallery.label_problems),
        _cards("Most difficult first", hardest),
        _cards("Easiest", easiest),
        _plots(gallery.distributions),
        _duplicates(gallery.duplicates),
        facts=gallery.facts,
    )
    path.write_text(content, encoding="utf-8", newline="\n")


def by_difficulty(cases: Sequence[GalleryCase]) -> list[GalleryCase]:
    """Most difficult first; flagged cases before all others, those without a value last; then by name."""

    def key(case: GalleryCase) -> tuple[int, float, str]:
        known = math.isfinite(case.difficulty)
        rank = 0 if case.flagged else 1 if known else 2
        return rank, -case.difficulty if known else 0.0, case.name

    return sorted(cases, key=key)


def _summary(gallery: Gallery) -> Markup:
    flagged = sum(bool(case.flagged) for case in gallery.cases)
    parts = [f"{_count(len(gallery.cases) + len(gallery.failures), 'case')}"]
    parts += [f"{len(gallery.failures)} could not be scored"] if gallery.failures else []
    parts += [f"{_count(flagged, 'case')} without content"] if flagged else []
    parts += [f"{_count(len(gallery.label_problems), 'label')} not usable"] if gallery.label_problems else []
    return tag("p", ", ".join(parts) + ".", class_="summary")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _sentences(title: str, sentences: Sequence[str]) -> Markup:
    if not sentences:
        return Markup("")
    lines = [tag("p", sentence, class_="warning") for sentence in sentences[:LISTED]]
    more = len(sentences) - LISTED
    return join(
        [tag("h2", title), *lines, *([tag("p", f"And {more} more, see the index.")] if more > 0 else [])]
    )


def _cards(title: str, cases: Sequence[GalleryCase]) -> Markup:
    if not cases:
        return Markup("")
    return join([tag("h2", title), tag("div", join(_card(case) for case in cases), class_="gallery")])


def _card(case: GalleryCase) -> Markup:
    what = "with the outlines of its label" if case.outlined else "as it is"
    shown = picture(case.thumbnail, f"{case.name} {what}") if case.thumbnail else Markup("")
    value = "no difficulty" if math.isnan(case.difficulty) else f"difficulty {score(case.difficulty)}"
    numbers = [f"{name} {score(v)}" for name, v in case.scores.items() if math.isfinite(v)]
    return tag(
        "figure",
        tag("div", shown, class_="panel"),
        tag("h3", case.name),
        tag("small", tag("b", case.flagged or value), *[f", {number}" for number in numbers]),
        *[tag("p", reason) for reason in case.reasons],
    )


def _plots(distributions: Mapping[str, Sequence[float]]) -> Markup:
    figures = []
    for name, values in distributions.items():
        known = [float(v) for v in values if math.isfinite(v)]
        if known:
            caption = f"{_count(len(known), 'case')}; to the right are the cases that stand out."
            png = histogram(known, name)
            figures.append(
                tag("figure", tag("h3", name), picture(png, f"{name}. {caption}"), tag("figcaption", caption))
            )
    if not figures:
        return Markup("")
    return join([tag("h2", "All cases"), tag("div", join(figures), class_="plots")])


def _duplicates(groups: Sequence[Sequence[str]]) -> Markup:
    if not groups:
        return Markup("")
    said = "Cases whose image files hold the very same bytes; in two splits, they would leak."
    rows = [(", ".join(group), len(group)) for group in groups[:LISTED]]
    return join(
        [
            tag("h2", "The same image twice"),
            tag("p", said, class_="note"),
            table(("cases", "copies"), rows, (1,)),
        ]
    )
