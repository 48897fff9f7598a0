"""The commands: help, exit codes, and what they print for people and for machines."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sfumato.cli import app


def run(*arguments: object):
    return CliRunner().invoke(app, ["difficulty", *map(str, arguments)])


def score(data, out, *more: object):
    return run("score", data, "--out", out, "--extractor", "pixels", "--copies", 0, "--workers", 1, *more)


@pytest.mark.parametrize("command", ["score", "gallery", "filter", "folds"])
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Example: sfumato difficulty {command}" in " ".join(result.stdout.split())


def test_from_images_to_splits(pictures, tmp_path):
    data, index = pictures(20), tmp_path / "index.parquet"
    scored = score(data, index)
    assert scored.exit_code == 0, scored.output
    assert (tmp_path / "index.gallery/index.html").exists()
    assert "score: 20 of 20" in scored.stderr
    trial = run("filter", index, "--keep", "0.9", "--to", tmp_path / "splits.json", "--dry-run")
    assert "2 would be left out" in trial.stdout
    assert "18 of 20 training cases stay (90.0%)" in trial.stdout
    assert not (tmp_path / "splits.json").exists()
    assert run("filter", index, "--drop", 3, "--to", tmp_path / "splits.json").exit_code == 0
    assert len(json.loads((tmp_path / "splits.json").read_text())["train"]) == 17
    assert run("gallery", index, "--out", tmp_path / "page").exit_code == 0
    assert (tmp_path / "page/index.html").exists()


def test_options_of_the_extractor(pictures, tmp_path):
    assert score(pictures(3), tmp_path / "a.parquet", "--set", "side=16", "--no-gallery").exit_code == 0
    refused = score(tmp_path / "data", tmp_path / "b.parquet", "--set", "sides=16")
    assert "has no option 'sides'" in str(refused.exception)


def test_a_case_that_failed_is_exit_code_1_and_one_line(pictures, tmp_path):
    data = pictures(3)
    (data / "images/phantom_001.png").write_bytes(b"no picture")
    result = score(data, tmp_path / "index.parquet", "--json", "--no-gallery")
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["statuses"] == {"error": 1, "ok": 2}
    assert content["index"].endswith("index.parquet")
    assert content["gallery"] is None
    assert "failed: phantom_001.png: not a readable picture" in result.stderr


def test_machines_get_plain_json_from_every_command(pictures, tmp_path):
    data, index = pictures(10), tmp_path / "index.parquet"
    score(data, index, "--no-gallery")
    filtered = run("filter", index, "--keep", "0.8", "--to", tmp_path / "splits.json", "--json")
    content = json.loads(filtered.stdout)
    assert (content["kept"], content["total"], content["kept_share"]) == ([8], [10], 0.8)
    assert len(content["dropped"]) == 2
    assert json.loads(run("gallery", index, "--out", tmp_path / "page", "--json").stdout)["page"]
    folds = run("folds", data, "--folds", 2, "--out", tmp_path / "folds", "--json")
    assert len(json.loads(folds.stdout)["folds"]) == 2


def test_names_in_square_brackets_reach_the_table(pictures, tmp_path):
    data = pictures(4)
    for part in ("images", "masks"):
        for path in sorted((data / part).iterdir()):
            path.rename(path.with_name(path.name.replace("phantom_", "[bold]")))
    score(data, tmp_path / "index.parquet", "--no-gallery")
    result = run("filter", tmp_path / "index.parquet", "--drop", 1, "--to", tmp_path / "s.json", "--dry-run")
    assert "[bold]" in result.stdout
