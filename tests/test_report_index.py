"""The index of a run: order, links, curves and what is stored of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfumato.errors import StorageError
from sfumato.metrics.calibration import reliability
from sfumato.report.index import CaseRow, Curves, ReliabilityBins, RiskCoverage, by_need, write_index
from sfumato.report.plots import _edges

FACTS = {"sfumato": "0.1.0"}
CURVES = Curves(
    "calibration cases",
    {
        "raw model": ReliabilityBins((0.6, math.nan, 0.9), (0.4, math.nan, 0.7), (10, 0, 50)),
        "method": ReliabilityBins((0.6, 0.9), (0.6, 0.9), (10, 50)),
    },
    {"raw model": RiskCoverage((0.5, 1.0), (0.1, 0.2)), "method": RiskCoverage((0.5, 1.0), (0.05, 0.2))},
)
ROWS = (
    CaseRow("low", "accept", 0.01, 0.1, {"wall": (1.0, 1.1)}, "low/report.html"),
    CaseRow("bad", "review", 0.3, 0.1, {"wall": (2.0, 1.1)}, "bad/report.html", b"png"),
    CaseRow("near", "accept", 0.09, 0.1, {"wall": (3.0, 1.1)}, "near/report.html"),
    CaseRow("worse", "review", 0.7, 0.1, {"wall": (4.0, 1.1)}, "worse/report.html"),
    CaseRow("broken", "review", None, 0.1, {}, "broken/report.html"),
)
CONTENT: dict[str, Any] = {
    "spacing_mm": [1.0, 1.0, 1.0],
    "scores": {"predictive": 0.4, "error": 0.2},
    "decision": {"verdict": "review", "score": 0.2, "threshold": 0.1, "reason": "Because."},
    "volumes": {"wall": {"ml": 1.5, "expected_ml": 1.25}},
}


def index_of(
    folder: Path, *rows: CaseRow, curves: Curves | None = None, failures: tuple[str, ...] = ()
) -> str:
    write_index(folder / "index.html", "run <1>", rows, curves, FACTS, failures)
    return (folder / "index.html").read_text(encoding="utf-8")


def test_review_comes_first_and_then_the_higher_score(tmp_path: Path) -> None:
    expected = ["broken", "worse", "bad", "near", "low"]
    assert [row.name for row in by_need(ROWS)] == expected
    page = index_of(tmp_path, *ROWS)
    places = [page.index(f'href="./{name}/report.html"') for name in expected]
    assert places == sorted(places)


def test_cases_without_a_rule_are_ordered_by_score_and_name() -> None:
    rows = [CaseRow("b", score=0.2), CaseRow("a", score=0.2), CaseRow("c", score=0.9)]
    assert [row.name for row in by_need(rows)] == ["c", "a", "b"]


def test_the_order_of_the_input_changes_no_byte(tmp_path: Path) -> None:
    first = index_of(tmp_path, *ROWS, curves=CURVES)
    assert first == index_of(tmp_path, *reversed(ROWS), curves=CURVES)


def test_names_are_escaped_and_links_stay_in_the_folder(tmp_path: Path) -> None:
    evil = "javascript:<script>\"'"
    page = index_of(tmp_path, CaseRow(evil, link=f"{evil}/report.html"), failures=("<b>broken</b>",))
    assert "<script" not in page
    assert "<b>broken" not in page
    assert "run &lt;1&gt;" in page
    assert 'href="./javascript%3A%3Cscript%3E%22%27/report.html"' in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_says_counts_failures_volumes_and_source(tmp_path: Path) -> None:
    page = index_of(tmp_path, *ROWS, curves=CURVES, failures=("x: not an image.",))
    for said in (
        "5 cases, 1 failed.",
        "x: not an image.",
        "4.000 (1.100) ml",
        "From calibration cases",
        "limit",
    ):
        assert said in page
    assert page.count("<figure>") == 3


def test_it_works_without_cases_curves_or_scores(tmp_path: Path) -> None:
    assert "No case was finished." in index_of(tmp_path)
    assert "There is no decision rule." in index_of(tmp_path, CaseRow("a"))
    assert "No score was low enough" in index_of(tmp_path, CaseRow("a", "review", 0.4))
    empty = Curves("test cases", {"method": ReliabilityBins((), (), ())}, {"method": RiskCoverage((), ())})
    assert "From test cases" in index_of(tmp_path, CaseRow("a", score=0.1), curves=empty)


def test_many_classes_share_one_column(tmp_path: Path) -> None:
    volumes = {f"organ {i}": (1.0, 2.0) for i in range(60)}
    page = index_of(tmp_path, CaseRow("a", volumes=volumes))
    assert "60.0 (120.0) ml" in page
    assert "organ 7" not in page


def test_a_row_is_read_from_what_predict_writes() -> None:
    row = CaseRow.from_case("a", CONTENT, b"png", "a/report.html")
    assert (row.verdict, row.score, row.threshold, row.picture) == ("review", 0.2, 0.1, False)
    assert row.volumes == {"wall": (1.5, 1.25)}
    undecided = CaseRow.from_case("a", {**CONTENT, "decision": None, "spacing_mm": None}, b"", "")
    assert (undecided.verdict, undecided.score, undecided.picture) == (None, 0.2, True)
    infinite = {**CONTENT["decision"], "score": math.nan, "threshold": None}
    assert CaseRow.from_case("a", {**CONTENT, "decision": infinite}, b"", "").score is None


@pytest.mark.parametrize("missing", ["decision", "scores", "volumes", "spacing_mm"])
def test_an_incomplete_case_is_named(missing: str) -> None:
    content = {k: v for k, v in CONTENT.items() if k != missing}
    with pytest.raises(StorageError, match=r"case 7: the stored case\.json"):
        CaseRow.from_case("case 7", content, b"", "")


def test_rows_and_curves_survive_json() -> None:
    for row in ROWS:
        assert CaseRow.from_json(json.loads(json.dumps(row.to_json(), allow_nan=False))) == row
    stored = json.loads(json.dumps(CURVES.to_json(), allow_nan=False))
    again = Curves.from_json(stored)
    assert again.to_json() == CURVES.to_json()
    assert math.isnan(again.reliability["raw model"].confidence[1])
    del stored["region"]
    assert Curves.from_json(stored).region == CURVES.region


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"source": "x", "reliability": {}},
        {"source": "x", "reliability": {}, "risk_coverage": {"a": {"coverage": [1.0], "risk": []}}},
        {
            "source": "x",
            "reliability": {"a": {"confidence": ["?"], "accuracy": [1], "count": [1]}},
            "risk_coverage": {},
        },
    ],
)
def test_curves_of_another_shape_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="stored curves"):
        Curves.from_json(content)


@pytest.mark.parametrize("content", [{}, {"name": "a"}, {**ROWS[0].to_json(), "thumbnail": "?"}])
def test_rows_of_another_shape_are_refused(content: dict[str, Any]) -> None:
    with pytest.raises(StorageError, match="stored row"):
        CaseRow.from_json(content)


def test_the_calibration_error_is_that_of_the_metrics() -> None:
    generator = np.random.default_rng(0)
    probability = generator.uniform(0.3, 1.0, 500)
    right = generator.uniform(size=500) < probability**2
    counted = reliability(probability, right)
    with np.errstate(invalid="ignore"):
        confidence, accuracy = counted.confidence / counted.count, counted.accuracy / counted.count
    bins = ReliabilityBins(tuple(confidence), tuple(accuracy), tuple(counted.count))
    assert bins.ece == pytest.approx(counted.ece, rel=1e-12)
    assert math.isnan(ReliabilityBins((), (), ()).ece)


@pytest.mark.parametrize("threshold", [None, 0.1, 0.5, -2.0, 3.0])
def test_the_bins_hold_every_score_and_split_at_the_limit(threshold: float | None) -> None:
    for values in (
        [0.1],
        [0.5, 0.5],
        [0.0, 0.1, 0.35, 0.7],
        list(np.random.default_rng(1).uniform(0, 1, 50)),
    ):
        limits = [] if threshold is None else [threshold]
        edges = _edges([*values, *limits], limits)
        counts, _ = np.histogram(values, edges)
        assert counts.sum() == len(values)
        if threshold is not None:
            assert counts[edges[1:] <= np.nextafter(threshold, math.inf)].sum() == sum(
                v <= threshold for v in values
            )
