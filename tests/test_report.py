"""The page of a case: safe, offline, equal bytes, and right about left and right."""

from __future__ import annotations

import base64
import io
import math
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from sfumato.decision import Decision
from sfumato.imaging import Geometry, Image, read_image, read_label
from sfumato.pipeline.result import CaseResult
from sfumato.report.case import LEGEND_LIMIT, case_page, thumbnail, write_case_report
from sfumato.report.figures import COLOURS, DASHES, style_of
from sfumato.report.html import POLICY
from sfumato.report.views import tilt
from sfumato.types import Kind

FACTS = {"method": "softmax", "sfumato": "0.1.0"}
REVIEW = Decision("review", 0.3, 0.1, "Expected 1 - Dice 0.300 is above the limit 0.100.")
ACCEPT = Decision("accept", 0.05, 0.1, "Expected 1 - Dice 0.050 is at most the limit 0.100.")


def phantom(
    shape: Sequence[int], affine: np.ndarray | None = None, channels: int = 1, **changes: Any
) -> CaseResult:
    """Two nested ellipsoids with doubt along their edges."""
    grid = np.indices(shape, dtype=np.float32)
    radius = sum(((g - (n - 1) / 2) / (0.35 * n)) ** 2 for g, n in zip(grid, shape, strict=True))
    labels = (radius < 1).astype(np.uint8) + (radius < 0.3)
    probability = np.stack([gaussian_filter((labels == c).astype(np.float32), 0.8) for c in range(3)])
    error = np.clip(1 - probability.max(axis=0), 0, 1)
    image = np.random.default_rng(0).normal(size=(channels, *shape)).astype(np.float32) + labels
    geometry = Geometry(tuple(shape), np.eye(4) if affine is None else affine)
    content: dict[str, Any] = {
        "image": Image(image, geometry, "phantom"),
        "classes": ("background", "wall", "core"),
        "segmentation": labels,
        "probability": np.rint(255 * probability).astype(np.uint8),
        "maps": {Kind.ERROR: np.rint(255 * error).astype(np.uint8)},
        "scores": {Kind.ERROR: 0.05, Kind.PREDICTIVE: 0.2},
        "volumes": {"wall": (0.5, 0.6), "core": (0.2, 0.2)},
        "decision": ACCEPT,
    }
    return CaseResult(**{**content, **changes})


def small_picture(**changes: Any) -> CaseResult:
    return phantom((24, 30), **changes)


class Reader(HTMLParser):
    """Collects elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[np.ndarray]:
        """Pictures of the page in order, RGB."""
        codes = [str(a["src"]).split(",", 1)[1] for t, a in self.elements if t == "img"]
        return [np.asarray(PillowImage.open(io.BytesIO(base64.b64decode(c))).convert("RGB")) for c in codes]


def test_everything_that_came_from_outside_is_escaped() -> None:
    evil = "<script>alert('1')</script>\" onload=\"x"
    result = small_picture(
        classes=("background", evil, "b"),
        volumes={evil: (0.1, 0.2)},
        warnings=(evil,),
        decision=Decision("review", 1.0, 0.1, evil),
        image=Image(np.zeros((1, 24, 30), np.float32), Geometry((24, 30)), evil),
    )
    page = case_page(result, {evil: evil})
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 7
    assert not [attributes for _, attributes in Reader(page).elements if "onload" in attributes]


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = case_page(phantom((12, 14, 10)), FACTS)
    reader = Reader(page)
    assert {"script", "link", "iframe", "object", "base", "form"}.isdisjoint(t for t, _ in reader.elements)
    for _, attributes in reader.elements:
        assert str(attributes.get("src", "data:")).startswith("data:")
        assert "href" not in attributes
    policies = [a["content"] for t, a in reader.elements if t == "meta" and "http-equiv" in a]
    assert policies == [POLICY] == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    bare = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).replace("http-equiv", "")
    assert not re.search(r"http|//|url\(|@import", bare)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name, seconds in (("a", 1.0), ("b", 99.0)):
        write_case_report(tmp_path / name, phantom((12, 14, 10), seconds=seconds), FACTS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert thumbnail(small_picture()) == thumbnail(small_picture())


def test_verdict_reason_warnings_and_footer_are_said() -> None:
    text = Reader(case_page(small_picture(decision=REVIEW, warnings=("Look here.",)), FACTS)).text
    for sentence in (
        "! review",
        REVIEW.reason,
        "Look here.",
        "Research software, not a medical device.",
        "softmax",
    ):
        assert sentence in text
    assert "✓ accept" in Reader(case_page(small_picture(), FACTS)).text
    assert "no decision" in Reader(case_page(small_picture(decision=None), FACTS)).text


def oblique() -> np.ndarray:
    affine = np.diag([1.0, 1.0, 8.0, 1.0])
    affine[:3, :3] = Rotation.from_euler("xyz", [15, 5, 40], degrees=True).as_matrix() @ affine[:3, :3]
    return affine


EMPTY = np.zeros((12, 14, 10), np.uint8)
CASES = {
    "tiny": (lambda: phantom((35, 51, 35)), 3),
    "thick slices": (lambda: phantom((40, 44, 10), np.diag([-1.0, -1.0, 8.0, 1.0])), 3),
    "oblique": (lambda: phantom((30, 34, 10), oblique()), 3),
    "several channels": (lambda: phantom((12, 14, 10), channels=4), 3),
    "one slice": (lambda: phantom((30, 20, 1)), 1),
    "picture": (small_picture, 1),
    "colours": (lambda: small_picture(channels=3), 1),
    "empty": (lambda: phantom((12, 14, 10), segmentation=EMPTY), 3),
    "constant map": (lambda: phantom((12, 14, 10), maps={Kind.ERROR: EMPTY}), 3),
    "constant float map": (lambda: small_picture(maps={Kind.RANKING: np.full((24, 30), 0.5, np.float16)}), 1),
    "below zero": (lambda: small_picture(maps={Kind.PROMPT: np.linspace(-3, -1, 720).reshape(24, 30)}), 1),
    "no map, no score": (lambda: small_picture(maps={}, scores={}, decision=None), 1),
    "float32": (lambda: small_picture(probability=np.full((3, 24, 30), 1 / 3, np.float32)), 1),
    "constant image": (
        lambda: small_picture(image=Image(np.ones((1, 24, 30)), Geometry((24, 30)), "flat")),
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_case_has_its_views(name: str) -> None:
    make, views = CASES[name]
    result = make()
    images = Reader(case_page(result, FACTS)).images()
    assert len(images) == 3 * views + 2
    assert all(image.shape[0] <= 440 and image.shape[1] <= 440 for image in images)
    small = PillowImage.open(io.BytesIO(thumbnail(result)))
    assert small.width <= 280
    assert small.height <= 192
    assert max(small.width / 280, small.height / 192) > 0.98


def test_notes_name_what_is_special() -> None:
    tilted = Reader(case_page(phantom((30, 34, 10), oblique()), FACTS)).text
    assert f"rotated by up to {tilt(oblique()):.0f} degrees" in tilted
    assert "Radiological convention" in tilted
    assert "The first of 4 channels is shown." in Reader(case_page(small_picture(channels=4), FACTS)).text
    flat = small_picture(maps={Kind.ERROR: np.zeros((24, 30), np.uint8)})
    assert "The map is the same everywhere" in Reader(case_page(flat, FACTS)).text


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_what_lies_on_the_patients_right_is_drawn_on_the_left(signs: tuple[int, int, int]) -> None:
    shape = (24, 24, 24)
    affine = np.diag([*signs, 1.0]).astype(float)
    world = np.stack([s * i for s, i in zip(signs, np.indices(shape), strict=True)])
    middle = world.mean(axis=(1, 2, 3))
    # A ball to the right (+x), front (+y) and head (+z) of the middle.
    target = middle + np.array([6.0, 5.0, 4.0])
    ball = (((world - target[:, None, None, None]) ** 2).sum(axis=0) < 12).astype(np.float32)
    result = phantom(
        shape,
        affine,
        image=Image(1000 * ball[None], Geometry(shape, affine), "ball"),
        segmentation=np.zeros(shape, np.uint8),
        maps={Kind.ERROR: 0.5 * ball},
    )
    reader = Reader(case_page(result, FACTS))
    for column in (0, 2):
        for panel in reader.images()[2 + column :: 3]:
            light = panel.astype(float).sum(axis=2)
            height, width = light.shape
            # The letters and the scale bar lie outside the inner part.
            inner = light[height // 6 : -height // 6, width // 6 : -width // 6]
            rows, columns = np.nonzero(inner > 0.7 * inner.max())
            assert columns.mean() < 0.45 * inner.shape[1]
            assert rows.mean() < 0.45 * inner.shape[0]
    found = re.search(r"at ([RL]) ([\d.]+), ([AP]) ([\d.]+), ([SI]) ([\d.]+) mm", reader.text)
    assert found is not None
    place = [float(found[i + 1]) * (1 if found[i] in "RAS" else -1) for i in (1, 3, 5)]
    assert np.abs(np.array(place) - target).max() <= 1.0


def test_sixty_classes_share_a_short_legend_and_a_full_table() -> None:
    names = ("background", *(f"organ {i:02d}" for i in range(1, 61)))
    labels = (np.indices((40, 40)) // 5 * np.array([8, 1])[:, None, None]).sum(axis=0).astype(np.uint8) % 59
    result = phantom(
        (40, 40),
        classes=names,
        segmentation=labels,
        probability=np.full((61, 40, 40), 4, np.uint8),
        volumes={n: (float((labels == i).sum()) / 1000, 0.025) for i, n in enumerate(names) if i},
    )
    page = case_page(result, FACTS)
    legend = page.split('class="legend">')[1].split("</small>")[0]
    assert legend.count("organ") == LEGEND_LIMIT
    assert "and 46 more" in legend
    table = page.split("<tbody>")[1].split("</tbody>")[0]
    assert table.count("<tr>") == 58
    assert "Not found in this image: organ 59, organ 60." in page


def test_classes_repeat_their_look_only_after_all_colours_and_dashes() -> None:
    looks = [style_of(n) for n in range(1, 61)]
    distinct = len(COLOURS) * len(DASHES)
    assert len(set(looks[:distinct])) == distinct
    assert looks[distinct] == looks[0]


def test_volumes_are_millilitres_and_areas_are_pixels() -> None:
    cells = Reader(case_page(phantom((12, 14, 10)), FACTS)).text
    assert "outlined, ml" in cells
    assert "+20.0 %" in cells
    text = Reader(case_page(small_picture(volumes={"wall": (1.234, 1.0), "core": (0.0, 0.002)}), FACTS)).text
    assert "outlined, pixels" in text
    assert "1,234" in text
    assert "not defined" in text
    assert "nan" not in text


def test_a_score_that_is_no_number_is_said_so() -> None:
    decision = Decision("review", math.nan, -math.inf, "The score is not a finite number.")
    text = Reader(case_page(small_picture(decision=decision, scores={Kind.ERROR: math.nan}), FACTS)).text
    assert "not finite" in text
    assert "inf" not in text.replace("The score is not a finite number.", "").replace("not finite", "")


def test_a_name_with_undecodable_bytes_can_be_written(tmp_path: Path) -> None:
    image = Image(np.zeros((1, 24, 30), np.float32), Geometry((24, 30)), "caf\udce9")
    write_case_report(tmp_path / "report.html", small_picture(image=image), FACTS)
    assert "caf?" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_importing_the_reports_leaves_matplotlib_alone() -> None:
    code = "import sys, sfumato.report.case, sfumato.report.index; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.needs_data
def test_a_real_crop_of_the_hippocampus(data_folder: Path) -> None:
    name = "hippocampus_190.nii.gz"
    folder = data_folder / "hippocampus_msd"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    image, labels = read_image(folder / "images" / name), read_label(folder / "masks" / name).array
    soft = np.stack([gaussian_filter((labels == c).astype(np.float32), 1.0) for c in range(3)])
    result = phantom(
        labels.shape,
        image=image,
        segmentation=labels.astype(np.uint8),
        probability=soft,
        maps={Kind.ERROR: 1 - soft.max(axis=0)},
    )
    reader = Reader(case_page(result, FACTS))
    assert len(reader.images()) == 11
    assert " x ".join(map(str, labels.shape)) in reader.text
