"""Our own folders: read as they were written, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.errors import ConfigError, StorageError, TapError, UnknownNameError
from sfumato.storage import load_segmenter, load_segmenter_folder


def test_our_folder(tmp_path, survives_saving, saved_preset):
    survives_saving(saved_preset(tmp_path / "first"), tmp_path / "second", (16, 16))


def test_a_methods_folder_is_a_segmenter_too(tmp_path, saved_preset):
    segmenter = saved_preset(tmp_path / "segmenter")
    assert load_segmenter(tmp_path).spec == segmenter.spec


def test_taps_of_a_saved_segmenter_can_be_chosen_again(tmp_path, refused, saved_preset):
    saved_preset(tmp_path)
    assert load_segmenter(tmp_path, taps=["image"]).spec.taps == ("image",)
    refused("no submodule 'nowhere'", TapError, tmp_path, taps=["nowhere"])


def test_a_saved_segmenter_needs_no_description(tmp_path, refused, saved_preset):
    saved_preset(tmp_path)
    assert load_segmenter(tmp_path, classes=(), channels=None, link="").spec.channels == 1
    refused("says its channels, link itself", ConfigError, tmp_path, channels=1, link="softmax")


def change(path: Path, **content) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def test_damaged_folders_are_refused(tmp_path, refused, saved_preset):
    segmenter = saved_preset(tmp_path)
    description, weights = tmp_path / "segmenter.json", tmp_path / "weights.safetensors"
    good = description.read_text()
    change(description, format=99)
    refused("segmenter format 99, expected 1", StorageError, tmp_path)
    change(description, format=1, spec=segmenter.spec.to_json() | {"source": ""})
    refused("comes from 'a running program', which cannot be built again", ConfigError, tmp_path)
    change(description, spec=segmenter.spec.to_json() | {"source": "preset:resnet"})
    refused("no preset called 'resnet'", UnknownNameError, tmp_path)
    description.write_text(good)
    other = {k: v + 1 for k, v in segmenter.module.state_dict().items()}
    save_file(other, weights)
    refused("weights are not those that were saved", StorageError, tmp_path)
    save_file({"first": torch.zeros(2)}, weights)
    refused("weights do not fit the network", StorageError, tmp_path)
    torch.save(segmenter.module.state_dict(), weights)
    refused("not a readable safetensors file", StorageError, tmp_path)
    weights.unlink()
    refused("not a readable safetensors file|no such file", StorageError, tmp_path)


def test_an_unknown_scheme_in_a_saved_folder_is_refused(tmp_path, saved_preset):
    segmenter = saved_preset(tmp_path)
    change(tmp_path / "segmenter.json", spec=segmenter.spec.to_json() | {"source": "web:http://example.org"})
    with pytest.raises(ConfigError, match="which cannot be built again"):
        load_segmenter_folder(tmp_path, allow_pickle=True)
