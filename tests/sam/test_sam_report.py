"""What is said of a mask, and the pictures of it."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato.datasets.prompt_file import ObjectPrompt
from sfumato.imaging import Geometry, Image
from sfumato.pipeline.prompted_case import segment_prompted
from sfumato.pipeline.prompted_plane import Click, PlaneMask
from sfumato.pipeline.slices import image_slices
from sfumato.report.sam import ListedMask, write_mask_list, write_prompted_report
from sfumato.report.sam_pictures import GIVEN, case_picture, draw_panels, object_panels, region_of
from sfumato.report.sam_wording import advice, remedies
from sfumato.segmenters.promptable.phantom import PhantomPromptable

from .conftest import discs


@pytest.fixture(scope="module")
def case():
    picture, _ = discs(np.random.default_rng(0), sides=(90, 120))
    image = Image(picture[None], Geometry(picture.shape), "<b>name</b>")
    prompts = [ObjectPrompt("a & b", ((45.0, 60.0, 1), (80.0, 100.0, 0)), (30, 40, 70, 90))]
    return segment_prompted(PhantomPromptable(), image, image_slices(image), prompts)


def answer_with(case, expected, click_gain=0.0, task=0.0, model=float("nan"), shown=(True, False, False)):
    answer = case.objects[0].answers[0]
    kept = PlaneMask(answer.kept.mask, answer.kept.probability, answer.kept.entropy, expected, 0.1, 0.95)
    return replace(
        answer,
        chosen=answer.own,
        kept=kept,
        click=Click(12, 34, 0, click_gain),
        task_gap=task,
        model_gap=model,
        shown=shown,
    )


def test_the_remedy_that_helps_most_comes_first(case):
    answer = answer_with(case, 0.42, 0.2, 0.3, 0.05, (True, True, True))
    assert advice(answer, True, "large") == (
        "Expected IoU 0.42 [0.10, 0.95]: choosing among masks 1, 2 and 3 is expected to add 0.30, a click outside of "
        "the object at (12, 34) 0.20, asking large 0.05."
    )
    gains = [gain for gain, _ in remedies(answer, "large")]
    assert gains == sorted(gains, reverse=True)


def test_what_does_not_help_is_not_advised(case):
    assert "no click or larger network" in advice(answer_with(case, 0.9, 0.01, 0.3, 0.001), True, "large")
    assert "outline it by hand" in advice(answer_with(case, 0.3, -0.2), True)
    assert remedies(answer_with(case, 0.4, 0.2, 0.3, 0.5), None) == [
        (0.2, "a click outside of the object at (12, 34)")
    ]


def test_what_the_offered_mask_is_ahead_of_the_networks_pick_is_no_gain(case):
    answer = replace(
        answer_with(case, 0.5, 0.2, 0.3, 0.15, (True, True, False)),
        expected_iou=(0.4, 0.5, 0.1),
        own=0,
        chosen=1,
    )
    gains = [gain for gain, _ in remedies(answer, "large")]
    assert gains == pytest.approx([0.2, 0.2, 0.05])


def test_the_region_holds_everything_that_is_drawn(case):
    answer = answer_with(case, 0.5, 0.2)
    rows, columns = region_of(answer, (90, 120))
    for row, column in [(45, 60), (80, 100), (30, 40), (70, 90), (12, 34), *np.argwhere(answer.kept.mask)]:
        assert rows.start <= row < rows.stop
        assert columns.start <= column < columns.stop
    assert 0 <= rows.start < rows.stop <= 90


def test_panels_are_equal_for_equal_input_and_show_the_click(case):
    answer = case.objects[0].answers[0]
    first, second = object_panels(case, 1, answer), object_panels(case, 1, answer)
    assert first == second
    pixels = np.array(PillowImage.open(io.BytesIO(first[0])).convert("RGB")).reshape(-1, 3)
    colour = [int(GIVEN[i : i + 2], 16) for i in (1, 3, 5)]
    assert (np.abs(pixels.astype(int) - colour).sum(axis=1) < 10).any()
    assert case_picture(case, draw_panels(case))[:4] == b"\x89PNG"


def test_names_are_escaped_and_nothing_is_fetched(case, tmp_path):
    for name in ("a.html", "b.html"):
        write_prompted_report(tmp_path / name, case, draw_panels(case), {"network": "x"})
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "<b>name</b>" not in text
    assert "a &amp; b" in text
    assert "http" not in text.split("<body>")[1]
    write_mask_list(
        tmp_path / "c.html", "t", "l", [ListedMask("<i>", b"", 0.5, "s", "x/y.html")], {}, ["<u>"]
    )
    listed = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "<i>" not in listed
    assert "<u>" not in listed
