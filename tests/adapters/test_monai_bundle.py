"""MONAI bundles: the network and what the bundle says about it, never its code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfumato.errors import ConfigError, StorageError
from sfumato.pipeline.prepare import normalise
from sfumato.segmenters import Preprocessing
from sfumato.segmenters.pinned import weights_sha256
from sfumato.storage import load_segmenter
from sfumato.types import Batch, Link

NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": "@classes",
    "channels": [4, 8, 8],
    "strides": [2, 2],
    "norm": "batch",
}
TRANSFORMS = [
    {"_target_": "LoadImaged", "keys": "image"},
    {"_target_": "EnsureChannelFirstd", "keys": "image"},
    {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
    {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0], "mode": "bilinear"},
    {
        "_target_": "ScaleIntensityRanged",
        "a_min": -57,
        "a_max": 164,
        "b_min": 0.0,
        "b_max": 1.0,
        "clip": True,
    },
    {"_target_": "EnsureTyped", "keys": "image"},
]


def write_bundle(
    folder: Path, network: dict | None = None, transforms: list | None = None, **config
) -> nn.Module:
    """A tiny bundle laid out as MONAI's model zoo does; returns its network."""
    nets = pytest.importorskip("monai.networks.nets")
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    data = {
        "inputs": {"image": {"type": "image", "num_channels": 1, "spatial_shape": [96, 96, 96]}},
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}},
    }
    (folder / "configs/metadata.json").write_text(json.dumps({"network_data_format": data}))
    definition = NETWORK if network is None else network
    content = {
        "device": "$torch.device('cpu')",
        "classes": 2,
        "network_def": definition,
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": TRANSFORMS if transforms is None else transforms,
        },
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [48, 48, 32]},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "Activationsd", "softmax": True}],
        },
    }
    (folder / "configs/inference.json").write_text(json.dumps(content | config))
    torch.manual_seed(0)
    plain = {k: 2 if v == "@classes" else v for k, v in NETWORK.items() if k != "_target_"}
    built = nets.UNet(**plain).eval()
    save_file(built.state_dict(), folder / "models/model.safetensors")
    return built


@pytest.mark.needs_monai
def test_a_monai_bundle(tmp_path, image, survives_saving):
    network = write_bundle(tmp_path / "bundle")
    segmenter = load_segmenter(tmp_path / "bundle")
    spec = segmenter.spec
    assert (spec.classes, spec.channels, spec.spatial_dims) == (("background", "spleen"), 1, 3)
    assert (spec.link, spec.window, spec.divisor) == (Link.SOFTMAX, (48, 48, 32), 4)
    assert spec.source == "monai:UNet"
    with torch.no_grad():
        expected = network(image((16, 16, 16)))
    assert torch.equal(segmenter.segment(Batch(image((16, 16, 16)))).logits, expected)
    survives_saving(segmenter, tmp_path / "saved", (16, 16, 16))


@pytest.mark.needs_monai
def test_a_bundles_intensities_are_scaled_as_monai_does(tmp_path):
    transforms = pytest.importorskip("monai.transforms")
    write_bundle(tmp_path)
    preprocessing = load_segmenter(tmp_path).spec.preprocessing
    assert preprocessing.spacing == (1.5, 1.5, 2.0)
    array = np.linspace(-200, 400, 125, dtype=np.float32).reshape(1, 5, 5, 5)
    scale = transforms.ScaleIntensityRange(-57, 164, 0.0, 1.0, clip=True)
    np.testing.assert_allclose(
        normalise(array, preprocessing, together=False), np.asarray(scale(array)), atol=1e-6
    )


@pytest.mark.needs_monai
def test_a_bundle_normalised_to_zero_mean(tmp_path):
    transforms = pytest.importorskip("monai.transforms")
    write_bundle(tmp_path, transforms=[{"_target_": "NormalizeIntensityd", "channel_wise": True}])
    array = np.random.default_rng(0).normal(5, 3, (2, 4, 4, 4)).astype(np.float32)
    ours = normalise(array, load_segmenter(tmp_path).spec.preprocessing, together=False)
    theirs = np.asarray(transforms.NormalizeIntensity(channel_wise=True)(array))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.needs_monai
def test_a_bundles_checkpoint_only_when_trusted(tmp_path, refused):
    network = write_bundle(tmp_path)
    (tmp_path / "models/model.safetensors").unlink()
    refused("no weights, expected models/model.safetensors", StorageError, tmp_path)
    torch.save(network.state_dict(), tmp_path / "models/model.pt")
    refused("--allow-pickle", StorageError, tmp_path)
    loaded = load_segmenter(tmp_path, allow_pickle=True)
    assert weights_sha256(loaded.module) == weights_sha256(network)


@pytest.mark.needs_monai
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "$__import__('os').system('touch ran')"}, "network_def.norm: .* is code or a macro"),
        ({"norm": {"_target_": "monai.networks.layers.Norm"}}, "itself a component"),
        ({"norm": "@lost"}, "reference '@lost' does not lead"),
        ({"_target_": "os.system"}, "network is os.system, expected a class of monai.networks.nets"),
        (
            {"_target_": "monai.networks.nets.UNetter"},
            "no network in monai.networks.nets called 'UNetter'.*UNet",
        ),
        ({"_target_": "load_state_dict_from_url"}, "no network in monai"),
        ({"depth": 3}, "does not take the arguments.*depth"),
        ({"pretrained": True}, "pretrained fetches other weights"),
    ],
)
def test_a_bundles_code_is_not_run(tmp_path, monkeypatch, changes, message, refused):
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "bundle", network=NETWORK | changes)
    refused(message, ConfigError, tmp_path / "bundle")
    assert os.listdir(tmp_path) == ["bundle"]


@pytest.mark.needs_monai
@pytest.mark.parametrize(
    "transform",
    [
        {"_target_": "ScaleIntensityd"},
        {"_target_": "Orientationd", "axcodes": "LPS"},
        {"_target_": "NormalizeIntensityd", "nonzero": True},
        {"_target_": "Spacingd", "pixdim": "$[1, 1, 1]"},
        {"_target_": "ScaleIntensityRanged", "a_min": 0, "a_max": 1},
    ],
)
def test_preprocessing_is_never_guessed(tmp_path, transform, refused):
    write_bundle(tmp_path, transforms=[transform])
    refused("no counterpart here; pass preprocessing yourself", ConfigError, tmp_path)
    given = Preprocessing("unit")
    assert load_segmenter(tmp_path, preprocessing=given).spec.preprocessing == given


@pytest.mark.needs_monai
def test_a_caller_completes_a_bundle_and_may_not_contradict_it(tmp_path, refused):
    write_bundle(tmp_path)
    spec = load_segmenter(tmp_path, classes=("nothing", "organ"), window=(32, 32, 32), channels=1).spec
    assert (spec.classes, spec.window) == (("nothing", "organ"), (32, 32, 32))
    assert load_segmenter(tmp_path, classes=2).spec.classes == ("background", "spleen")
    refused("channels=2 was given, but .* says 1", ConfigError, tmp_path, channels=2)
    refused("spatial_dims=2 was given", ConfigError, tmp_path, spatial_dims=2)
    refused("classes=5 was given", ConfigError, tmp_path, classes=5)
    refused(r"returned \(1, 2, .*check classes, link", ConfigError, tmp_path, link="sigmoid")
    sigmoid = {"transforms": [{"_target_": "Activationsd", "sigmoid": True}]}
    write_bundle(tmp_path, postprocessing=sigmoid)
    refused("2 independent sigmoid outputs", ConfigError, tmp_path)


@pytest.mark.needs_monai
def test_damaged_bundles_are_refused(tmp_path, refused):
    write_bundle(tmp_path)
    (tmp_path / "configs/inference.json").write_text('{"classes": 2}')
    refused("expected a network_def with a _target_", ConfigError, tmp_path)
    (tmp_path / "configs/inference.json").write_text("network_def: UNet")
    refused("not readable as JSON", StorageError, tmp_path)
    (tmp_path / "configs/inference.json").unlink()
    refused("no such file", StorageError, tmp_path)
