"""The index of a run: which cases a person should look at first."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import StorageError
from .curves import Curves, ReliabilityBins, RiskCoverage
from .html import Markup, badge, join, page, picture, table, tag
from .plots import reliability_plot, risk_coverage_plot, score_plot
from .wording import amount, score

VERDICT_ORDER = {"review": 0, None: 1, "accept": 2}
VOLUME_COLUMNS = 4
"""Data sets with more classes get one column with their sum."""
PIXEL = 0.001
"""What one pixel of a picture counts in `volumes`, see `sfumato.imaging.Geometry.voxel_ml`."""


@dataclass(frozen=True)
class CaseRow:
    """One case of an index.

    Args:
        name: of the case.
        verdict: `accept`, `review`, or None without a decision rule.
        score: higher = more likely wrong; None without one, or where it is not a finite number.
        threshold: largest accepted score; None without one, or where nothing is accepted.
        volumes: class name -> (ml outlined, ml expected); thousandths of a pixel for pictures.
        link: of the case's page, relative to the index.
        thumbnail: PNG bytes, may be empty.
        picture: whether volumes are areas of a picture.
    """

    name: str
    verdict: str | None = None
    score: float | None = None
    threshold: float | None = None
    volumes: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    link: str = ""
    thumbnail: bytes = b""
    picture: bool = False

    @classmethod
    def from_case(cls, name: str, content: Mapping[str, Any], thumbnail: bytes, link: str) -> CaseRow:
        """A row from what `case.json` says.

        Raises:
            StorageError: `case.json` lacks something.
        """
        try:
            decision = content["decision"] or {}
            scores = content["scores"]
            score = decision["score"] if decision else scores.get("error", next(iter(scores.values()), None))
            volumes = {
                str(k): (float(v["ml"]), float(v["expected_ml"])) for k, v in content["volumes"].items()
            }
            return cls(
                name,
                decision.get("verdict"),
                _finite(score),
                _finite(decision.get("threshold")),
                volumes,
                link,
                thumbnail,
                content["spacing_mm"] is None,
            )
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise StorageError(
                f"{name}: {_unreadable('case.json', error)}; delete its folder and predict again."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Plain types; the thumbnail in base64."""
        content = dict(vars(self))
        content["volumes"] = {name: list(pair) for name, pair in self.volumes.items()}
        content["thumbnail"] = base64.b64encode(self.thumbnail).decode("ascii")
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseRow:
        """The inverse of `to_json`.

        Raises:
            StorageError: not a row that this version reads.
        """
        try:
            volumes = {str(k): (float(hard), float(soft)) for k, (hard, soft) in content["volumes"].items()}
            thumbnail = base64.b64decode(content["thumbnail"], validate=True)
            return cls(**{**content, "volumes": volumes, "thumbnail": thumbnail})
        except (TypeError, KeyError, ValueError, AttributeError, binascii.Error) as error:
            raise StorageError(f"{_unreadable('row', error)}; predict again.") from error


def _unreadable(what: str, error: Exception) -> str:
    return f"the stored {what} is not one this version reads ({type(error).__name__}: {error})"


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def by_need(rows: Sequence[CaseRow]) -> list[CaseRow]:
    """Cases to review first, then those without decision; in each, missing scores first, then the highest."""

    def key(row: CaseRow) -> tuple[int, float, str]:
        return VERDICT_ORDER.get(row.verdict, 1), -math.inf if row.score is None else -row.score, row.name

    return sorted(rows, key=key)


def write_index(
    path: Path,
    title: str,
    rows: Sequence[CaseRow],
    curves: Curves | None,
    facts: Mapping[str, str],
    failures: Sequence[str],
) -> None:
    """Write the index as one HTML file that needs nothing but the cases' own pages.

    Args:
        path: of the file, usually `index.html` beside the folders of the cases.
        title: heading.
        rows: one per finished case, in any order.
        curves: how good the method was on labelled cases; None leaves the plots of it out.
        facts: shown in the footer; no times, or equal input gives unequal bytes.
        failures: one sentence per case that could not be finished.
    """
    ordered = by_need(rows)
    content = page(
        title,
        tag("div", tag("h1", title), class_="head"),
        _summary(ordered, failures),
        _failures(failures),
        _cases(ordered),
        _plots(ordered, curves),
        facts=facts,
    )
    path.write_text(content, encoding="utf-8", newline="\n")


def _summary(rows: Sequence[CaseRow], failures: Sequence[str]) -> Markup:
    parts = []
    for verdict in ("review", "accept", None):
        count = sum(row.verdict == verdict for row in rows)
        if count or (verdict and any(row.verdict for row in rows)):
            parts.append(tag("span", badge(verdict), f" {count}"))
    words = f"{len(rows)} {'case' if len(rows) == 1 else 'cases'}, {len(failures)} failed."
    return tag("p", tag("span", words), *parts, class_="summary")


def _failures(failures: Sequence[str]) -> Markup:
    if not failures:
        return Markup("")
    lines = [tag("p", sentence, class_="warning") for sentence in failures]
    return join([tag("h2", "Cases that failed"), *lines])


def _cases(rows: Sequence[CaseRow]) -> Markup:
    if not rows:
        return tag("p", "No case was finished.")
    names = list(dict.fromkeys(name for row in rows for name in row.volumes))
    names = names if len(names) <= VOLUME_COLUMNS else []
    columns = names or ["all classes"]
    header = ["", "case", "verdict", "score", *columns]
    said = (
        "Sorted by need of review. Pictures show the worst plane; bright colours are doubtful. Classes: what "
        "was outlined, and in brackets what the probability lets expect."
    )
    made = table(header, [_line(row, names) for row in rows], range(3, 4 + len(columns)), class_="cases")
    return join([tag("h2", "Cases"), tag("p", said, class_="note"), made])


def _line(row: CaseRow, names: Sequence[str]) -> list[Markup | str]:
    image = picture(row.thumbnail, f"Worst plane of {row.name}") if row.thumbnail else Markup("")
    if row.link:
        # `./` keeps a name with a colon from being read as a scheme.
        target = "./" + quote(row.link.encode("utf-8", "surrogateescape"), safe="/")
        image, name = tag("a", image, href=target), tag("a", row.name, href=target)
    else:
        name = tag("span", row.name)
    total = tuple(sum(pair[i] for pair in row.volumes.values()) for i in range(2))
    pairs = [row.volumes.get(n) for n in names] if names else [total if row.volumes else None]
    return [
        image,
        name,
        badge(row.verdict),
        "–" if row.score is None else score(row.score),
        *(_pair(p, row) for p in pairs),
    ]


def _pair(pair: tuple[float, ...] | None, row: CaseRow) -> str:
    if pair is None:
        return "–"
    hard, soft = (amount(v, PIXEL if row.picture else None) for v in pair)
    return f"{hard} ({soft}) {'px' if row.picture else 'ml'}"


def _plots(rows: Sequence[CaseRow], curves: Curves | None) -> Markup:
    scores = {
        str(v or "no decision"): [r.score for r in rows if r.verdict == v and r.score is not None]
        for v in VERDICT_ORDER
    }
    limits = sorted({row.threshold for row in rows if row.threshold is not None})
    figures = []
    if curves is not None:
        source = f"From {curves.source}, {curves.region}."
        figures += [
            _figure(
                reliability_plot(curves),
                "Reliability diagram",
                "On the diagonal a stated 80 % is right 8 times out of 10; below it the model is too sure. "
                f"{source}",
            ),
            _figure(
                risk_coverage_plot(curves),
                "Risk and coverage",
                f"The error left when only the most trusted share is used; lower is better. {source}",
            ),
        ]
    if rows:
        figures.append(_figure(score_plot(scores, limits), "Scores of the cases above", _limit(rows, limits)))
    heading = [tag("h2", "How far to trust this")] if figures else []
    return join([*heading, tag("div", join(figures), class_="plots")])


def _limit(rows: Sequence[CaseRow], limits: Sequence[float]) -> str:
    if limits:
        return "Cases up to the dashed limit are accepted."
    return (
        "No score was low enough to be accepted."
        if any(r.verdict for r in rows)
        else "There is no decision rule."
    )


def _figure(png: bytes, title: str, caption: str) -> Markup:
    return tag("figure", tag("h3", title), picture(png, f"{title}. {caption}"), tag("figcaption", caption))


__all__ = ["CaseRow", "Curves", "ReliabilityBins", "RiskCoverage", "by_need", "write_index"]
