"""`fit_texts`: a network that reads is calibrated with the sentences of its calibration cases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.datasets import read_text_table
from sfumato.errors import ConfigError, DatasetError, UnknownNameError
from sfumato.heads.temperature import fit_temperature
from sfumato.imaging import Geometry, Image
from sfumato.methods.text_guided.doubt import TextDoubt
from sfumato.pipeline.case import predict_image
from sfumato.runs.fit import FitOptions
from sfumato.runs.text.fit import TextFitOptions, fit_texts
from sfumato.runs.text.model import open_text_model
from sfumato.runs.text.samples import read_told
from sfumato.runs.text.sentences import read_sentences
from sfumato.storage import load_segmenter_folder
from sfumato.types import Batch, TextPrompt

from .conftest import SPLITS

OPTIONS = TextFitOptions(settings={"sentences": ("two polyps",)}, fit=FitOptions(device="cpu"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, discs, learnt) -> Path:
    out = tmp_path_factory.mktemp("runs") / "fitted"
    fit_texts(learnt, discs, out, OPTIONS)
    return out


def temperature_of(folder: Path) -> float:
    estimator = open_text_model(folder)[0].estimator
    assert isinstance(estimator, TextDoubt)
    return float(estimator.temperature)


def answers(discs: Path, learnt: Path, names: list[str]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Logits (2, pixels) and labels (pixels) of cases with their sentences, on the network's own grid."""
    table, segmenter = read_text_table(discs), load_segmenter_folder(learnt)
    told, _ = read_told(table, names, None, segmenter.spec)
    logits, labels = [], []
    for case in told.values():
        prompt = None if case.sentence is None else TextPrompt((case.sentence,))
        sample = case.samples[0]
        found = segmenter.segment(Batch(torch.from_numpy(sample.image)[None], prompt))
        logits.append(found.full_logits()[0].flatten(1))
        labels.append(torch.from_numpy(sample.label.astype(np.int64)).flatten())
    return logits, labels


def test_some_calibration_patients_fit_the_temperature_and_others_the_chance_of_error(fitted, discs):
    method, record = open_text_model(fitted)
    table = read_text_table(discs)
    fitting, calibrating = set(record["fitted_on"]), set(record["calibrated_on"])
    assert fitting | calibrating == set(SPLITS["calibration"])
    patients = [{table.cases[name].case.patient for name in names} for names in (fitting, calibrating)]
    assert all(patients)
    assert not patients[0] & patients[1]
    assert record["splits"] == SPLITS
    assert record["problems"] == []
    assert method.config.sentences == ("two polyps",)
    assert {"case", "voxel"} <= set(record["rules"])


def test_the_temperature_is_that_of_the_cases_with_their_sentences(fitted, discs, learnt):
    logits, labels = answers(discs, learnt, open_text_model(fitted)[1]["fitted_on"])
    found = temperature_of(fitted)
    assert found == pytest.approx(fit_temperature(logits, labels), rel=0.02)

    def nll(temperature: float) -> float:
        both = zip(logits, labels, strict=True)
        losses = [torch.nn.functional.cross_entropy((z / temperature).T, y) for z, y in both]
        return float(torch.stack(losses).mean())

    assert nll(found) < nll(1.0)
    assert nll(found) <= min(map(nll, np.geomspace(0.1, 10, 41))) + 1e-5


def test_the_mask_stays_that_of_the_network(fitted, learnt):
    generator = np.random.default_rng(1)
    image = Image(generator.integers(0, 255, (3, 40, 48)).astype(np.uint8), Geometry((40, 48)), "noise")
    for sentence in (None, TextPrompt(("one polyp in the left",))):
        calm, raw = (
            predict_image(open_text_model(folder)[0], image, prompt=sentence) for folder in (fitted, learnt)
        )
        assert np.array_equal(calm.segmentation, raw.segmentation)
        assert not np.array_equal(calm.probability, raw.probability)


def test_words_of_the_training_go_along(fitted, learnt):
    assert read_sentences(fitted) == read_sentences(learnt) is not None
    assert (fitted / "sentences.json").read_bytes() == (learnt / "sentences.json").read_bytes()


def test_the_same_fit_is_kept_and_another_one_refused(fitted, discs, learnt):
    said, before = [], (fitted / "method.json").read_bytes()
    record = fit_texts(learnt, discs, fitted, OPTIONS, say=said.append)
    assert "kept" in " ".join(said)
    assert record == open_text_model(fitted)[1]
    with pytest.raises(ConfigError, match="another settings"):
        fit_texts(learnt, discs, fitted, replace(OPTIONS, settings={}))
    assert (fitted / "method.json").read_bytes() == before


def test_mistakes_are_one_sentence(tmp_path, discs, learnt):
    with pytest.raises(ConfigError, match="instances"):
        TextFitOptions(fit=FitOptions(instances=True))
    (tmp_path / "one.json").write_text(json.dumps(SPLITS | {"calibration": ["c8", "c9"]}))
    with pytest.raises(DatasetError, match="of one patient"):
        fit_texts(learnt, discs, tmp_path / "one", OPTIONS, splits=tmp_path / "one.json")
    with pytest.raises(UnknownNameError, match="level"):
        fit_texts(learnt, discs, tmp_path / "level", replace(OPTIONS, level="p6"))
    with pytest.raises(ConfigError, match="say something"):
        fit_texts(learnt, discs, tmp_path / "empty", replace(OPTIONS, settings={"sentences": ("none",)}))
