"""Which word each part of a mask hangs on, and the page that says it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sfumato.imaging import Geometry, Image
from sfumato.pipeline import text_answer
from sfumato.pipeline.text_answer import TextOptions, Variant, answer_text
from sfumato.report import text as text_report
from sfumato.report.text import PATIENT_SIDES, text_page
from sfumato.report.text_parts import MOST_PARTS, deepest, number_parts, words_by_part

from .scripted import METHOD, SENTENCE, SIDE, Scripted

SIZES = (6, 3, 5, 4, 2, 1)


def squares(sizes=SIZES) -> np.ndarray:
    """Squares of these sides, apart from each other, all in a row."""
    mask = np.zeros((10, 12 * len(sizes)), bool)
    for i, side in enumerate(sizes):
        mask[1 : 1 + side, 12 * i : 12 * i + side] = True
    return mask


def test_parts_are_numbered_from_the_largest_on_and_specks_are_none():
    mask = squares()
    numbers = number_parts(mask)
    # Sides 6, 5 and 4 are parts 1 to 3; 3 has nine pixels and is a speck beside them.
    assert [int(numbers[1, 12 * i]) for i in range(len(SIZES))] == [1, 0, 2, 3, 0, 0]
    assert (numbers[~mask] == 0).all()
    assert number_parts(squares((1,))).max() == 1  # nothing larger is there
    assert number_parts(squares((4,) * 6)).max() == MOST_PARTS
    assert number_parts(np.zeros((4, 4), bool)).max() == 0


def test_parts_that_touch_at_a_corner_are_one():
    mask = np.kron(np.eye(2), np.ones((4, 4))) > 0
    assert np.array_equal(number_parts(mask), mask.astype(np.uint8))


def test_changes_are_means_of_a_loop_and_signs_do_not_cancel():
    generator = np.random.default_rng(3)
    numbers = number_parts(squares())
    words = [Variant(name, 0.5, generator.uniform(-1, 1, numbers.shape).astype(np.float32)) for name in "abc"]
    for part in words_by_part(numbers, words):
        places = [at for at in np.ndindex(numbers.shape) if numbers[at] == part.number]
        assert part.pixels == len(places)
        for word in words:
            assert word.shift is not None
            mean = sum(abs(float(word.shift[at])) for at in places) / len(places)
            assert dict(part.changes)[word.text] == pytest.approx(mean, abs=1e-6)
        assert [c for _, c in part.changes] == sorted((c for _, c in part.changes), reverse=True)


def test_each_part_is_given_its_own_word():
    numbers = number_parts(squares((5, 4, 4)))
    here, there = ((numbers == number).astype(np.float32) for number in (1, 2))
    parts = words_by_part(numbers, [Variant("left", 1, 0.9 * here), Variant("right", 1, -0.8 * there)])
    assert [part.deciding for part in parts] == ["left", "right", "no single word"]


def test_numbers_stand_inside_of_crooked_parts():
    ring = squares((6,))
    ring[2:6, 1:5] = False
    assert ring[deepest(ring)]
    solid = squares((9,))
    assert deepest(solid) == tuple(round(x) for x in ndimage.center_of_mass(solid))


@pytest.fixture
def answer(monkeypatch):
    """The scripted network, which moves its disc for the word `left` alone."""
    monkeypatch.setattr(text_answer, "predict_image", Scripted())
    picture = Image(np.zeros((1, SIDE, SIDE), np.uint8), Geometry((SIDE, SIDE)), "discs")
    return lambda words=True: answer_text(METHOD, picture, SENTENCE, options=TextOptions(words=words))


def test_the_page_says_which_word_the_mask_hangs_on(answer):
    page = text_page(answer(), {})
    section = page.split("Which word each part of the mask hangs on</h2>")[1].split("<h2>")[0]
    assert "the whole mask" in section
    # With the sentence 0.9 on the left disc, without the word 0.1.
    assert "<b>left</b>" in section
    assert "left 0.80, " in section
    assert "Which word each part" not in text_page(answer(words=False), {})


def test_several_parts_are_numbered_in_table_and_picture(answer, monkeypatch):
    written: list[str] = []
    monkeypatch.setattr(text_report.Panel, "name", lambda panel, row, column, text: written.append(text))
    found = answer()
    text_page(found, {})
    assert written == []
    found.result.segmentation[20:28, 20:28] = 1
    page = text_page(found, {})
    assert written == ["1", "2"]
    section = page.split("Which word each part of the mask hangs on</h2>")[1].split("<h2>")[0]
    assert "<td>1</td>" in section
    assert "<td>2</td>" in section


def test_whose_left_is_meant_is_written_under_and_into_the_picture(answer, monkeypatch):
    written: list[tuple[float, str]] = []
    monkeypatch.setattr(
        text_report.Panel, "name", lambda panel, row, column, text: written.append((column, text))
    )
    assert PATIENT_SIDES not in text_page(answer(), {})
    assert written == []
    assert PATIENT_SIDES.replace("'", "&#x27;") in text_page(answer(), {}, sides="patient")
    assert [letter for _, letter in sorted(written)] == ["R", "L"]  # from the left of the picture on
