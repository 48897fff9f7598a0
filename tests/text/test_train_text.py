"""`train_texts`: images, masks and sentences in, a folder out that reads; resume, held-out patients, mirror, rates."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file

from sfumato.datasets import read_text_table
from sfumato.errors import ConfigError, DatasetError, UnknownNameError
from sfumato.methods.text_guided.text_encoder import build_text_encoder
from sfumato.methods.text_guided.told_samples import ToldSample
from sfumato.methods.text_guided.training import build_network
from sfumato.runs.text import train
from sfumato.runs.text.model import open_text_model
from sfumato.runs.text.sentences import read_sentences
from sfumato.runs.text.train import describe, mirrored, train_texts
from sfumato.storage import load_segmenter_folder
from sfumato.training import loop
from sfumato.training.samples import Sample
from sfumato.types import Batch, TextPrompt

from .conftest import COLUMNS, ROWS, SPLITS


def record_of(folder: Path) -> dict:
    return json.loads((folder / "segmenter.json").read_text())["record"]


def test_a_folder_reads_and_knows_what_it_was_trained_on(trained):
    method, record = open_text_model(trained)
    assert (method.name, record) == ("text_guided", {})
    assert load_segmenter_folder(trained).spec.classes == ("background", "polyp")
    assert record_of(trained)["splits"] == SPLITS
    words = read_sentences(trained)
    assert words is not None
    assert words.vocabulary.check("one polyp in the left").unseen == ()
    assert words.vocabulary.check("one small polyp").unseen == ("small",)  # of a test case alone


def test_patients_that_choose_the_epoch_are_not_trained_on(trained, discs):
    table, record = read_text_table(discs), record_of(trained)
    held = set(record["validation_cases"])
    fitting = set(SPLITS["train"]) - held
    assert record["cases"] == len(fitting) == 6
    patients = [{table.cases[name].case.patient for name in names} for names in (held, fitting)]
    assert patients[0]
    assert not patients[0] & patients[1]
    assert record["validation"]["score"] >= 0


def test_a_loaded_network_answers_the_same_and_minds_its_sentence(trained):
    once, again = load_segmenter_folder(trained), load_segmenter_folder(trained)
    image = torch.randn(2, 3, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    batch = Batch(image, TextPrompt(("one polyp in the left", "unknown")))
    answers = once.segment(batch).logits
    assert answers.shape == (2, 1, ROWS, COLUMNS)
    assert torch.equal(answers, again.segment(batch).logits)
    silent = once.segment(Batch(image)).logits
    assert torch.equal(answers[1], silent[1])
    assert not torch.equal(answers[0], silent[0])


def test_splits_of_a_file_take_the_place_of_the_data_sets(tmp_path, discs, tiny_config):
    swapped = {"train": SPLITS["calibration"], "calibration": SPLITS["train"], "test": SPLITS["test"]}
    (tmp_path / "other.json").write_text(json.dumps(swapped))
    train_texts(discs, tmp_path / "run", tiny_config(epochs=1), splits=tmp_path / "other.json")
    assert record_of(tmp_path / "run")["splits"] == swapped


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path, monkeypatch, discs, tiny_config, trained):
    epoch, seen = loop._Run.epoch, []

    def dies(self, number, report):
        if number == 1:
            raise KeyboardInterrupt
        return epoch(self, number, report)

    def counted(self, number, report):
        seen.append(number)
        return epoch(self, number, report)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            train_texts(discs, tmp_path / "run", tiny_config())
    assert not (tmp_path / "run/weights.safetensors").exists()
    monkeypatch.setattr(loop._Run, "epoch", counted)
    train_texts(discs, tmp_path / "run", tiny_config())
    assert seen == [1]
    resumed, whole = (load_file(folder / "weights.safetensors") for folder in (tmp_path / "run", trained))
    assert set(resumed) == set(whole)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_another_run_in_the_folder_is_refused(trained, discs, tiny_config):
    before = (trained / "train.json").read_bytes()
    with pytest.raises(ConfigError, match="another training"):
        train_texts(discs, trained, tiny_config(learning_rate=1e-4))
    with pytest.raises(ConfigError, match="another mirror"):
        train_texts(discs, trained, replace(tiny_config(), mirror=True))
    assert (trained / "train.json").read_bytes() == before


def test_every_epoch_trains_and_no_sentence_is_read_twice(tmp_path, monkeypatch, discs, tiny_config, bert):
    encoders, seen, step = [], [], loop._Run._step

    def build(*settings):
        encoders.append(build_text_encoder(*settings))
        return encoders[-1]

    def watched(self, *given):
        seen.append((self.module.training, encoders[0].encoded))
        return step(self, *given)

    monkeypatch.setattr(train, "build_text_encoder", build)
    monkeypatch.setattr(loop._Run, "_step", watched)
    train_texts(discs, tmp_path / "run", tiny_config())
    # Two epochs of two steps, with a validation between; left, right and no sentence.
    assert seen == [(True, 3)] * 4
    assert encoders[0].encoded == 3
    untouched = build_text_encoder(f"hf:{bert}", 12).network.state_dict()
    after = encoders[0].network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in untouched.items())


def test_a_mirror_image_has_its_sides_exchanged_everywhere():
    image, label = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4), np.arange(12).reshape(3, 4)
    told = ToldSample((Sample(image, label.astype(np.int16), "a", "b"),), "one polyp, on the left")
    found = mirrored(told)
    sample = found.samples[0]
    for row, column in np.ndindex(3, 4):
        assert (sample.image[:, row, column] == image[:, row, 3 - column]).all()
        assert sample.label[row, column] == label[row, 3 - column]
    assert found.sentence == "one polyp, on the right"
    assert (sample.name != "a", sample.patient) == (True, "b")
    assert mirrored(found).sentence == told.sentence
    assert mirrored(replace(told, sentence=None)).sentence is None
    slices = tuple(replace(told.samples[0], name=f"v/{i}", case="v") for i in range(2))
    for volume in (slices, slices[:1]):
        with pytest.raises(ConfigError, match="v: a volume with mirror"):
            mirrored(ToldSample(volume, "a polyp"))


def test_pictures_are_mirrored_only_when_asked_and_never_to_validate(
    tmp_path, monkeypatch, discs, tiny_config
):
    given = {}

    def noted(network, fitting, validation, *rest):
        given.update(fitting=fitting, validation=validation)
        return network.eval()

    monkeypatch.setattr(train, "train_network", noted)
    train_texts(discs, tmp_path / "plain", tiny_config())
    plain = dict(given)
    train_texts(discs, tmp_path / "mirror", replace(tiny_config(), mirror=True))
    names = lambda cases: [case.samples[0].name for case in cases]
    assert not [name for name in names(plain["fitting"]) if name not in SPLITS["train"]]
    count = len(plain["fitting"])
    assert names(given["fitting"][:count]) == names(plain["fitting"])
    assert names(given["fitting"][count:]) == [f"{name} mirrored" for name in names(plain["fitting"])]
    assert names(given["validation"]) == names(plain["validation"])
    on_the_left = lambda case: bool(case.samples[0].label[:, : COLUMNS // 2].any())
    for case, other in zip(given["fitting"][:count], given["fitting"][count:], strict=True):
        assert on_the_left(case) is not on_the_left(other)
        for told in (case, other):
            side = "left" if on_the_left(told) else "right"
            assert told.sentence in (f"one polyp in the {side}", None)


def test_the_image_encoder_learns_at_its_share_of_the_rate(tmp_path, discs, tiny_config):
    def after(rate: float) -> dict[str, torch.Tensor]:
        config = tiny_config(image_rate=rate, epochs=1)
        train_texts(discs, tmp_path / str(rate), replace(config, validation=0.0))
        return load_file(tmp_path / str(rate) / "weights.safetensors")

    spec, network_config = describe(read_text_table(discs), SPLITS["train"], tiny_config())
    encoder = build_text_encoder(network_config.text_encoder, network_config.text_length)
    built = build_network(network_config, encoder).named_parameters()
    start = {f"network.{name}": values.detach() for name, values in built}
    image = [name for name in start if name.startswith("network.encoder.")]
    runs = {rate: after(rate) for rate in (0.0, 0.1, 1.0)}
    distance = {
        rate: sum(float((found[name] - start[name]).square().sum()) for name in image) ** 0.5
        for rate, found in runs.items()
    }
    assert distance[0.0] == 0
    assert 0 < distance[0.1] < 0.3 * distance[1.0]
    head = "network.head.weight"
    assert all(not torch.equal(found[head], start[head]) for found in runs.values())
    assert spec.channels == network_config.channels == 3


def test_mistakes_are_one_sentence(tmp_path, discs, tiny_config):
    table, config = read_text_table(discs), tiny_config(epochs=1)
    with pytest.raises(DatasetError, match="training split is empty"):
        describe(table, (), config)
    with pytest.raises(ConfigError, match="2 class names"):
        describe(table, SPLITS["train"], replace(config, classes=("polyp", "stone")))
    with pytest.raises(ConfigError, match="validation=1"):
        replace(config, validation=1.0)
    with pytest.raises(UnknownNameError, match="level"):
        train_texts(discs, tmp_path / "run", replace(config, level="p6"))
    (tmp_path / "one.json").write_text(json.dumps(SPLITS | {"train": ["c0", "c1"]}))
    with pytest.raises(DatasetError, match="of one patient"):
        train_texts(discs, tmp_path / "one", config, splits=tmp_path / "one.json")


def test_a_case_that_cannot_be_read_is_left_out_and_told(tmp_path, discs, tiny_config):
    shutil.copytree(discs, tmp_path / "data")
    PillowImage.fromarray(np.zeros((ROWS, 9), np.uint8)).save(tmp_path / "data/masks/c7.png")
    result = train_texts(tmp_path / "data", tmp_path / "run", tiny_config(epochs=1))
    assert [problem for problem in result["problems"] if "c7" in problem] == result["problems"] != []
    assert record_of(tmp_path / "run")["cases"] + len(result["problems"]) + 2 == len(SPLITS["train"])
