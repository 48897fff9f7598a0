"""A volume has one sentence: a network for pictures gets it with every slice; sides come from the header."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.errors import InputError
from sfumato.imaging import Geometry, read_image
from sfumato.pipeline.case import PredictOptions, predict_image
from sfumato.pipeline.prepare import prepare_image
from sfumato.pipeline.text_answer import is_mirrored, upright
from sfumato.runs.text.model import open_text_model
from sfumato.storage import load_segmenter_folder
from sfumato.types import Batch, Kind, TextPrompt

SENTENCE = "one polyp in the left"
AFFINE = np.array([[-2.0, 0, 0, 9], [0, -2.0, 0, 7], [0, 0, 4.0, -3], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def volume(tmp_path_factory) -> Path:
    """Four slices with noise, each its own; three channels as the network was trained on."""
    path = tmp_path_factory.mktemp("volume") / "scan.nii.gz"
    values = np.random.default_rng(0).normal(100, 20, (40, 48, 4, 1, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return path


def test_every_slice_gets_the_sentence(volume, learnt, monkeypatch):
    method, image = open_text_model(learnt)[0], read_image([volume], "scan")
    segmenter, said = method.segmenter, []
    segment = type(segmenter).segment

    def noted(self, batch):
        said.append((len(batch.image), None if batch.prompt is None else batch.prompt.sentences))
        return segment(self, batch)

    monkeypatch.setattr(type(segmenter), "segment", noted)
    predict_image(method, image, prompt=TextPrompt((SENTENCE,)))
    told = [(rows, sentences) for rows, sentences in said if sentences is not None]
    assert sum(rows for rows, _ in told) == image.geometry.shape[2] == 4
    assert all(sentences == (SENTENCE,) * rows for rows, sentences in told)


def test_the_answer_is_that_of_slice_after_slice(volume, learnt):
    method, image = open_text_model(learnt)[0], read_image([volume], "scan")
    result = predict_image(
        method, image, options=PredictOptions(float32=True), prompt=TextPrompt((SENTENCE,))
    )
    assert result.segmentation.shape == image.geometry.shape
    segmenter = load_segmenter_folder(learnt)
    prepared = prepare_image(image, segmenter.spec)
    slices = torch.from_numpy(prepared.array).movedim(1, 0)
    answers = [segmenter.segment(Batch(one.unsqueeze(0), TextPrompt((SENTENCE,)))) for one in slices]
    alone = np.stack([answer.probability()[0, 1].numpy() for answer in answers])
    expected = prepared.grid.to_file(alone[None], order=0)[0]
    np.testing.assert_allclose(result.probability[1], expected, atol=1e-5)
    assert np.array_equal(result.segmentation, expected > 0.5)
    for one, other in pairwise(np.moveaxis(expected, 2, 0)):
        assert np.abs(one - other).max() > 1e-3


def test_the_sentence_counts_in_every_slice(volume, learnt):
    method, image = open_text_model(learnt)[0], read_image([volume], "scan")
    said = predict_image(method, image, prompt=TextPrompt((SENTENCE,)))
    silent = predict_image(method, image)
    rounding = 1e-3  # of maps that are kept in half precision
    assert (said.maps[Kind.PROMPT].reshape(-1, 4).max(axis=0) > 10 * rounding).all()
    assert silent.maps[Kind.PROMPT].max() < rounding
    with pytest.raises(InputError, match="expected a TextPrompt of one sentence"):
        predict_image(method, image, prompt=TextPrompt(("one", "two")))


def test_files_and_page_of_a_volume(volume, learnt, tmp_path):
    words = ["predict", "text_guided", str(volume), "--model", str(learnt), "--out", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--text", SENTENCE, "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "scan/case.json").read_text())
    assert content["text"]["sentence"] == SENTENCE
    assert content["text"]["moved"]["words"] == []
    assert {"segmentation.nii.gz", "segmentation_without_text.nii.gz"} <= set(content["files"])
    for name in content["files"]:
        written = read_image([tmp_path / "scan" / name], name).geometry
        assert written.shape == (40, 48, 4)
        np.testing.assert_allclose(written.affine, AFFINE)
    assert SENTENCE in (tmp_path / "scan/report.html").read_text()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LIP", "ASR", "SPL"])
def test_sides_come_from_the_header(codes):
    """However the axes lie in the file, the patient's left ends up on the right and the top of the head above."""
    spot, shape = {"L": 0.9, "S": 0.8, "A": 0.5}, (10, 10, 10)
    opposite = dict(zip("LRAPSI", "RLPAIS", strict=True))
    place = tuple(int(10 * (spot[c] if c in spot else 1 - spot[opposite[c]])) for c in codes)
    mask = np.zeros(shape, bool)
    mask[place] = True
    affine = np.eye(4)
    for axis, code in enumerate(codes):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if code in pair)
        affine[:3, axis] = np.eye(3)[world] * (1 if code in "RAS" else -1)
    assert "".join(nib.orientations.aff2axcodes(affine)) == codes
    _, row, column = np.argwhere(upright(mask, Geometry(shape, affine)))[0]
    assert row < 3
    assert column > 7
    assert is_mirrored(Geometry(shape, affine), "image")


def test_sides_of_pictures_are_the_images_unless_told():
    mask, flat = np.eye(4, dtype=bool), Geometry((4, 4))
    assert upright(mask, flat) is mask
    assert not is_mirrored(flat, "image")
    assert is_mirrored(flat, "patient")
