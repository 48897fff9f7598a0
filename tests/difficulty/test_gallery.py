"""The page of an index: who is on it, why, and that nothing in a name can harm it."""

from __future__ import annotations

import io
import math
import re

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato.imaging import Geometry, Image
from sfumato.report.difficulty import (
    EASIEST,
    HARDEST,
    LISTED,
    Gallery,
    GalleryCase,
    by_difficulty,
    write_gallery,
)
from sfumato.report.difficulty_thumbnail import case_thumbnail
from sfumato.report.figures import COLOURS
from sfumato.runs.difficulty.gallery import gallery_of, make_gallery
from sfumato.runs.difficulty.reasons import reasons_of, shares_below
from sfumato.runs.difficulty.table import INDEX_COLUMNS, empty_row


def page_of(folder, gallery: Gallery) -> str:
    write_gallery(folder / "index.html", gallery)
    return (folder / "index.html").read_text(encoding="utf-8")


def headings(page: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page)


def shown(page: str) -> list[str]:
    return re.findall(r"</div><h3>(.*?)</h3>", page)


def cases(count: int) -> tuple[GalleryCase, ...]:
    return tuple(GalleryCase(f"c{i:03d}", i / count) for i in range(count))


def test_the_hardest_come_first_and_the_easiest_last(tmp_path):
    page = page_of(tmp_path, Gallery("x", cases(100)))
    names = shown(page)
    assert names[:3] == ["c099", "c098", "c097"]
    assert len(names) == HARDEST + EASIEST
    assert names[HARDEST : HARDEST + 2] == ["c000", "c001"]


def test_no_case_is_shown_twice(tmp_path):
    names = shown(page_of(tmp_path, Gallery("x", cases(HARDEST + 2))))
    assert len(names) == len(set(names)) == HARDEST + 2


def test_flagged_cases_come_before_all_and_undefined_ones_last():
    mixed = (
        GalleryCase("low", 0.1),
        GalleryCase("none", math.nan),
        GalleryCase("void", 0.0, flagged="empty"),
        GalleryCase("high", 0.9),
    )
    assert [case.name for case in by_difficulty(mixed)] == ["void", "high", "low", "none"]


def test_names_and_sentences_are_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    gallery = Gallery(
        evil,
        (GalleryCase(evil, 0.5, (evil,), {evil: 1.0}, b"png", flagged=evil),),
        (evil,),
        (evil,),
        ((evil, evil),),
        {evil: [0.5]},
        {evil: evil},
    )
    page = page_of(tmp_path, gallery)
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 8
    assert "http" not in page.replace("http-equiv", "")


def test_what_failed_is_counted_and_said(tmp_path):
    failures = tuple(f"case{i}: torn." for i in range(LISTED + 3))
    page = page_of(tmp_path, Gallery("x", cases(2), failures, ("case9: no label.",)))
    assert f"{LISTED + 5} cases, {LISTED + 3} could not be scored, 1 label not usable." in page
    assert page.count("torn.") == LISTED
    assert "And 3 more, see the index." in page
    assert headings(page)[:2] == ["Cases that could not be scored", "Labels that could not be used"]


def test_equal_input_gives_equal_bytes(tmp_path):
    gallery = Gallery("x", cases(30), distributions={"Difficulty": [0.1, 0.5, math.nan]})
    assert page_of(tmp_path, gallery) == page_of(tmp_path, gallery)


def test_a_page_of_nothing_is_a_page(tmp_path):
    assert "0 cases." in page_of(tmp_path, Gallery("x", ()))


def row(name: str, **changes):
    return empty_row(INDEX_COLUMNS) | {"case": name, "status": "ok", "label_status": "none"} | changes


def test_reasons_name_what_is_unusual():
    rows = [row(f"c{i}", auv=i / 20, surprise=(19 - i) / 20) for i in range(20)]
    found = reasons_of(rows)
    assert found[19] == ("Its features vary in few directions (AUV above 97 % of cases).",)
    assert found[0] == ("Its label differs more than the segmenters expect (surprise above 97 % of cases).",)
    assert found[10] == ()
    damaged = [row(f"c{i}", damage=i / 20, damage_kind="blur") for i in range(20)]
    assert reasons_of(damaged)[19][0].startswith(
        "Looks like a damaged copy of the others, most of all by blur ("
    )
    assert "without content" in reasons_of([row("void", status="empty")])[0][0]


def test_shares_count_ties_by_half_and_leave_out_what_is_undefined():
    values = [0.5, 0.1, 0.5, math.nan]
    slow = [
        math.nan if math.isnan(v) else (sum(w < v for w in values) + 0.5 * sum(w == v for w in values)) / 3
        for v in values
    ]
    np.testing.assert_allclose(shares_below(values), slow)


def test_copies_stand_together():
    rows = [
        row("a"),
        row("b", duplicate_of="a"),
        row("c"),
        row("d", duplicate_of="a"),
        row("e", duplicate_of="c"),
    ]
    assert gallery_of(rows, "x").duplicates == (("a", "b", "d"), ("c", "e"))


def test_the_page_of_a_scored_data_set(pictures, score, tmp_path):
    data = pictures(6)
    (data / "images/phantom_001.png").write_bytes(b"no picture")
    summary = score(data, thumbnails=True)
    page = make_gallery(summary.index, tmp_path / "page").read_text(encoding="utf-8")
    assert "6 cases, 1 could not be scored." in page
    assert "not a readable picture" in page
    assert page.count("with the outlines of its label") == 5
    assert len(shown(page)) == 5


def colours_in(png: bytes) -> set[tuple[int, int, int]]:
    picture = np.array(PillowImage.open(io.BytesIO(png)).convert("RGB"))
    return {tuple(int(v) for v in colour) for colour in picture.reshape(-1, 3)}


def test_a_thumbnail_shows_every_class_in_its_colour():
    label = np.zeros((40, 40), int)
    label[5:15, 5:15], label[20:35, 20:35] = 3, 9
    image = Image(np.linspace(0, 1, 1600).reshape(1, 40, 40), Geometry((40, 40)))
    wanted = {tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in COLOURS[:2]}
    assert wanted <= colours_in(case_thumbnail(image, label))
    assert not wanted & colours_in(case_thumbnail(image))


def test_a_thumbnail_of_a_volume_shows_the_slice_with_most_label():
    array, label = np.zeros((1, 20, 20, 6)), np.zeros((20, 20, 6), int)
    array[..., 4], array[0, :5, :, 4] = 1.0, 0.5
    label[5:15, 5:15, 4] = 1
    image = Image(array, Geometry((20, 20, 6), np.diag([1.0, 1.0, 4.0, 1.0])))
    png = case_thumbnail(image, label)
    assert len(colours_in(png)) > 2
    # Without a label it is the middle one, which is black.
    assert colours_in(case_thumbnail(image)) == {(0, 0, 0)}


@pytest.mark.parametrize("shape", [(8, 300), (300, 8)])
def test_a_thumbnail_fits_its_frame(shape):
    image = Image(np.random.default_rng(0).random((1, *shape)), Geometry(shape))
    width, height = PillowImage.open(io.BytesIO(case_thumbnail(image))).size
    assert width <= 280
    assert height <= 192


def test_colour_pictures_keep_their_colours():
    array = np.zeros((3, 20, 20))
    array[0, :, :10], array[2, :, 10:] = 1.0, 1.0
    colours = colours_in(case_thumbnail(Image(array, Geometry((20, 20)))))
    assert {(255, 0, 0), (0, 0, 255)} <= colours
