"""`sfumato predict text_guided` and `sfumato evaluate text_guided`: files in, files out, with a scripted network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.datasets import read_text_table
from sfumato.errors import DatasetError, StorageError
from sfumato.pipeline import text_answer
from sfumato.runs.text import arms, evaluate, predict
from sfumato.runs.text.sentences import learn_sentences, read_sentences, read_texts, write_sentences

from .scripted import METHOD, SENTENCE, Scripted, disc, foreground

OTHER = "one small disc, right"


@pytest.fixture
def scripted(monkeypatch) -> Scripted:
    network = Scripted()
    for place in (text_answer, arms):
        monkeypatch.setattr(place, "predict_image", network)
    for place in (predict, evaluate):
        monkeypatch.setattr(place, "open_text_model", lambda folder: (METHOD, {}))
    return network


@pytest.fixture
def data(tmp_path) -> Path:
    """Four pictures of two patients, discs left and right in turn, one of them without a sentence."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    rows = ["image,text,patient"]
    for i in range(4):
        mask = disc(8 if i % 2 == 0 else 24)
        PillowImage.fromarray(np.uint8(40 + 100 * mask)).save(tmp_path / f"data/images/p{i}.png")
        PillowImage.fromarray(np.uint8(255 * mask)).save(tmp_path / f"data/masks/p{i}.png")
        rows.append(f'p{i},"{"" if i == 3 else OTHER if i % 2 else SENTENCE}",patient {i // 2}')
    (tmp_path / "data/texts.csv").write_text("\n".join(rows))
    return tmp_path / "data"


@pytest.fixture
def model(tmp_path, data) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    splits = {"train": [], "calibration": [], "test": ["p0", "p1", "p2", "p3"]}
    (folder / "segmenter.json").write_text(json.dumps({"record": {"splits": splits}}))
    write_sentences(folder, learn_sentences(read_text_table(data), ["p0", "p1", "p2", "p3"]))
    return folder


def run(*words, code=0):
    result = CliRunner().invoke(app, [*map(str, words)])
    if code == 0 and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def predicted(model, *words, code=0):
    return json.loads(run("predict", "text_guided", "--model", model, "--json", *words, code=code).stdout)


def test_one_image_and_its_sentence(scripted, model, data, tmp_path):
    image, out = data / "images/p0.png", tmp_path / "out"
    found = predicted(model, image, "--text", SENTENCE, "--variant", "a disc", "--out", out)
    folder = out / "p0"
    content = json.loads((folder / "case.json").read_text())
    assert found["cases"] == [content]
    assert content["text"]["sentence"] == SENTENCE
    assert content["text"]["decided_by_the_sentence"] == ["left"]
    assert content["text"]["moved"]["variants"][-1] == {"text": "a disc", "moved": 1.0}
    assert {w["text"]: w["moved"] for w in content["text"]["moved"]["words"]}["left"] == 1.0
    assert all((folder / name).exists() for name in (*content["files"], "report.html", "details.html"))
    assert np.array_equal(np.array(PillowImage.open(folder / "segmentation.png")), disc(8))
    assert np.array_equal(np.array(PillowImage.open(folder / "segmentation_without_text.png")), disc(24))
    shift = tifffile.imread(folder / "text_shift.tiff")
    assert shift[disc(8)].min() > 0
    assert shift[0, 0] == 0
    doubt = tifffile.imread(folder / "image_doubt.tiff") + tifffile.imread(folder / "text_doubt.tiff")
    assert 0 < doubt.max() <= np.log(2) + 1e-6
    assert "p0/report.html" in (out / "index.html").read_text()


def test_the_page_shows_sentence_warnings_and_the_words_that_move_something(scripted, model, data, tmp_path):
    sentence = "one small disc, left <b>"
    predicted(model, data / "images/p0.png", "--text", sentence, "--out", tmp_path / "out")
    page = (tmp_path / "out/p0/report.html").read_text()
    assert "one small disc, left &lt;b&gt;" in page
    assert "decided by the sentence, not by the image" in page
    assert "Change without the word left" in page
    assert "Change without the word small" not in page
    first = page
    predicted(model, data / "images/p0.png", "--text", sentence, "--out", tmp_path / "again")
    assert (tmp_path / "again/p0/report.html").read_text() == first


def test_a_finished_case_is_kept_until_its_sentence_changes(scripted, model, data, tmp_path):
    words = (data / "images/p0.png", "--out", tmp_path / "out", "--no-words")
    assert predicted(model, *words, "--text", SENTENCE)["done"] == ["p0"]
    assert predicted(model, *words, "--text", SENTENCE)["kept"] == ["p0"]
    assert predicted(model, *words, "--text", OTHER)["done"] == ["p0"]
    assert predicted(model, *words, "--text", OTHER, "--sides", "patient")["done"] == ["p0"]


def test_a_volume_keeps_its_geometry_and_its_page_has_three_views(scripted, model, tmp_path):
    affine = np.array([[0, 0, 0.7, 5], [-0.8, 0, 0, 10], [0, 3.0, 0, -20], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros((32, 4, 32), np.int16), affine), tmp_path / "head.nii.gz")
    found = predicted(model, tmp_path / "head.nii.gz", "--text", SENTENCE, "--out", tmp_path / "out")
    for name in found["cases"][0]["files"]:
        written = nib.load(tmp_path / "out/head" / name)
        assert np.allclose(written.affine, affine)
        assert written.shape[:3] == (32, 4, 32)
    volume = nib.load(tmp_path / "out/head/segmentation.nii.gz").get_fdata()
    assert np.array_equal(volume[:, 0], disc(8).T[:, ::-1])
    shift = nib.load(tmp_path / "out/head/text_shift.nii.gz").get_fdata()
    assert 0 < shift.max() <= 1
    assert found["cases"][0]["text"]["moved"]["words"] == []
    page = (tmp_path / "out/head/report.html").read_text()
    assert all(view in page for view in ("Axial: ", "Coronal: ", "Sagittal: ", "Radiological convention"))


def test_several_images_have_a_table_of_sentences_or_none(scripted, model, data, tmp_path):
    found = predicted(model, data / "images", "--texts", data / "texts.csv", "--out", tmp_path / "out")
    said = {c["case"]: c["text"]["sentence"] for c in found["cases"]}
    assert said == {"p0": SENTENCE, "p1": OTHER, "p2": SENTENCE, "p3": None}
    none = predicted(model, data / "images", "--out", tmp_path / "none")
    assert {c["text"]["sentence"] for c in none["cases"]} == {None}


def test_mistakes_are_one_sentence(scripted, model, data, tmp_path):
    out = ("--out", tmp_path / "out")
    for words, message in (
        ((data / "images", "--text", SENTENCE), "One sentence for 4 images"),
        ((data / "images/p0.png", "--texts", data / "texts.csv"), "Sentences of 'p1', 'p2', 'p3'"),
        ((data / "images/p0.png", "--text", "a", "--texts", data / "texts.csv"), "one or the other"),
        ((data / "images/p0.png", "--sides", "doctor"), "expected one of image, patient"),
    ):
        result = CliRunner().invoke(
            app, ["predict", "text_guided", "--model", *map(str, (model, *words, *out))]
        )
        assert message in str(result.exception)


def test_a_table_with_two_rows_for_one_image_is_refused(tmp_path):
    (tmp_path / "texts.csv").write_text("image,text\na.png,one\na.jpg,two\n")
    with pytest.raises(DatasetError, match="two rows for a"):
        read_texts(tmp_path / "texts.csv")


def test_what_training_sentences_were_like_comes_back(model, data):
    training = read_sentences(model)
    assert training is not None
    assert training.vocabulary.words["disc"] == 3
    assert training.vocabulary.sentences == 3
    assert learn_sentences(read_text_table(data), ["p0", "p1", "p2", "p3"]) == training
    assert read_sentences(data) is None
    (model / "sentences.json").write_text('{"vocabulary": []}')
    with pytest.raises(StorageError, match="train again"):
        read_sentences(model)


def test_evaluation_tells_what_the_sentence_is_worth(scripted, model, data, tmp_path):
    words = ("--model", model, "--data", data, "--out", tmp_path / "results", "--json")
    results = json.loads(run("evaluate", "text_guided", *words).stdout)
    table = results["arms"]
    assert results["cases"] == 4
    assert table["sentence"]["dice"] | {"undefined": 0} == {
        "value": 1.0, "low": 1.0, "high": 1.0, "count": 3, "undefined": 0,
    }  # fmt: skip
    # Without a sentence the scripted network always finds the right disc: p1 and p3.
    assert table["none"]["dice"]["value"] == 0.5
    assert table["none"]["lost"]["value"] == pytest.approx(2 / 3)  # of the three with a sentence
    assert table["none"]["pooled_dice"] == 0.5
    assert table["contradiction"]["dice"]["value"] == 0
    assert table["paraphrase"]["dice"]["value"] == 1
    told = results["contradiction"]
    assert told["warned_of_contradictions"] == pytest.approx(
        1 / 3
    )  # p1, told to look left, where nothing is without
    rows = list(csv.DictReader((tmp_path / "results/results.csv").read_text().splitlines()))
    assert {r["arm"] for r in rows if r["case"] == "p3"} == {"none"}
    assert float(next(r for r in rows if r["case"] == "p0" and r["arm"] == "sentence")["dice"]) == 1.0
    assert json.loads((tmp_path / "results/results.json").read_text()) == results


def test_evaluation_wants_splits_that_keep_training_cases_apart(scripted, model, data):
    (model / "segmenter.json").write_text("{}")
    result = CliRunner().invoke(app, ["evaluate", "text_guided", "--model", str(model), "--data", str(data)])
    assert "give --splits" in str(result.exception)


def test_scripted_answers_are_what_the_tests_above_count_on():
    assert np.array_equal(foreground("left") > 0.5, disc(8))
    assert np.array_equal(foreground(None) > 0.5, disc(24))
