"""`sfumato train --method text_guided` and what follows it, as people type them: exit codes, JSON, refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image as PillowImage
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.errors import ConfigError, UnknownNameError
from sfumato.storage import load_segmenter_folder

from .conftest import SPLITS


@pytest.fixture(scope="module")
def tiny(bert) -> list[str]:
    settings = (f"text_encoder=hf:{bert}", "image_weights=random", "text_length=12", "mixed_tokens=[4]")
    words = ["--side", "32", "--epochs", "1", "--batch-size", "3", "--device", "cpu", "--json"]
    return [*(word for setting in settings for word in ("--set", setting)), *words]


def run(*words) -> dict:
    result = CliRunner().invoke(app, [*map(str, words)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return {"code": result.exit_code} | json.loads(result.stdout)


def test_from_pictures_and_sentences_to_a_page(tmp_path, discs, tiny):
    network, fitted, pages = tmp_path / "network", tmp_path / "fitted", tmp_path / "pages"
    told = ["--set", "fusion=addition", "--loss", "cross_entropy", "--image-rate", "0.5", "--mirror"]
    train = ("train", "--method", "text_guided", "--data", discs, "--out", network)
    result = run(*train, "--classes", "polyp", *told, *tiny)
    assert (result["code"], result["problems"]) == (0, [])
    assert 0 <= result["validation"]["score"] <= 1
    arguments = load_segmenter_folder(network).spec.arguments
    assert (arguments["config"]["fusion"], arguments["config"]["text_length"]) == ("addition", 12)
    config = json.loads((network / "segmenter.json").read_text())["record"]["config"]
    assert (config["mirror"], config["training"]["image_rate"]) == (True, 0.5)
    assert config["training"]["loss"] == "cross_entropy"
    fit = ("fit", "text_guided", "--segmenter", network, "--data", discs, "--out", fitted, "--json")
    result = run(*fit, "--sentence", "two polyps", "--target-risk", "0.9", "--device", "cpu")
    assert (result["code"], result["problems"]) == (0, [])
    assert set(result["rules"]) == {"case", "voxel"}
    picture, sentence = discs / "images/c15.png", "one polyp in the left"
    predict = ("predict", "text_guided", picture, "--model", fitted, "--out", pages, "--json")
    result = run(*predict, "--text", sentence, "--no-words")
    assert result["code"] == 0
    assert result["cases"][0]["text"]["sentence"] == sentence
    assert (pages / "c15/report.html").exists()
    result = run("evaluate", "text_guided", "--model", fitted, "--data", discs, "--json")
    assert (result["code"], result["cases"]) == (0, len(SPLITS["test"]))


def test_people_are_told_what_comes_next(tmp_path, discs, tiny):
    words = ["train", "--method", "text_guided", "--data", str(discs), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(app, [*words, *tiny[:-1]])
    assert result.exit_code == 0
    assert f"next: sfumato fit text_guided --segmenter {tmp_path / 'run'}" in result.stderr


def test_a_case_left_out_is_exit_code_one(tmp_path, discs, tiny):
    data = shutil.copytree(discs, tmp_path / "data")
    for name in ("c7", "c8"):
        PillowImage.fromarray(np.zeros((40, 9), np.uint8)).save(data / f"masks/{name}.png")
    trained = run("train", "--method", "text_guided", "--data", data, "--out", tmp_path / "run", *tiny)
    assert trained["code"] == 1
    assert [problem.split(":")[0] for problem in trained["problems"]] == ["c7"]
    words = ("--data", data, "--out", tmp_path / "fit", "--device", "cpu", "--json")
    fitted = run("fit", "text_guided", "--segmenter", tmp_path / "run", *words)
    assert fitted["code"] == 1
    assert any("c8" in problem for problem in fitted["problems"])


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["--set", "channels=1"], ConfigError, "--set channels"),
        (["--set", "fusion=magic"], UnknownNameError, "fusion"),
        (["--set", "colour=red"], ConfigError, "colour"),
        (["--profile", "mine"], UnknownNameError, "profile"),
        (["--loss", "mine"], UnknownNameError, "loss"),
        (["--image-rate", "2"], ConfigError, "image_rate=2"),
        (["--image-dropout", "1"], ConfigError, "image_dropout=1"),
        (["--augment", "9"], ConfigError, "augment=9"),
        (["--side", "8"], ConfigError, "side=8"),
        (["--epochs", "0"], ConfigError, "epochs=0"),
        (["--prompt-level", "p6"], UnknownNameError, "p6"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, discs, tiny, words, error, message):
    line = ["train", "--method", "text_guided", "--data", str(discs), "--out", str(tmp_path / "run"), *tiny]
    with pytest.raises(error, match=message) as caught:
        run(*line, *words)
    assert "\n" not in str(caught.value)


def test_options_of_the_other_kind_are_refused(tmp_path, discs):
    line = ["train", "--data", str(discs), "--out", str(tmp_path / "run")]
    for words, named in (
        (["--method", "text_guided", "--preset", "resunet2d"], "--preset"),
        (["--method", "text_guided", "--strategy", "duo"], "--strategy"),
        (["--prompt-level", "p6"], "--prompt-level"),
    ):
        refused = CliRunner().invoke(app, [*line, *words])
        assert refused.exit_code == 2
        assert named in refused.output
    with pytest.raises(UnknownNameError, match="text_guided"):
        run(*line, "--method", "softmax")
    assert not (tmp_path / "run").exists()
