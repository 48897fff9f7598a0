"""Networks that a Python function builds, and the checkpoints that go with them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfumato.errors import ConfigError, StorageError
from sfumato.registry import get_method
from sfumato.storage import load_method, load_segmenter, save_method, save_segmenter
from sfumato.types import Batch

SOURCE = """
import torch
from torch import nn

def build(width=4, classes=3):
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, classes, 1))

def not_a_network():
    return 7

def fails():
    raise KeyError("layers")
"""


class Bomb:
    """A pickle that writes a file when it is loaded the ordinary way."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


@pytest.fixture
def source_file(tmp_path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(SOURCE)
    return path


def test_a_function_in_a_file(source_file, tmp_path, survives_saving):
    segmenter = load_segmenter(f"{source_file}:build", classes=3, spatial_dims=2, arguments={"width": 6})
    assert segmenter.spec.source == f"python:{source_file}:build"
    assert segmenter.widths == {"2:input": 6}
    survives_saving(segmenter, tmp_path / "saved", (16, 16), allow_pickle=True)


def test_a_function_in_a_package(source_file, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    segmenter = load_segmenter("networks:build", classes=("back", "a", "b"), spatial_dims=2, window=(64, 32))
    assert segmenter.spec.source == "python:networks:build"
    assert (segmenter.spec.classes, segmenter.spec.window) == (("back", "a", "b"), (64, 32))


def test_a_function_in_the_current_folder(source_file, tmp_path, monkeypatch):
    source_file.rename(tmp_path / "found_here.py")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    with pytest.raises(ConfigError, match="'found_here' cannot be imported"):
        load_segmenter("found_here:build", classes=3, spatial_dims=2)
    monkeypatch.chdir(tmp_path)
    assert load_segmenter("found_here:build", classes=3, spatial_dims=2).widths == {"2:input": 4}


def test_a_saved_folder_runs_no_function_unless_it_is_trusted(source_file, tmp_path, refused):
    segmenter = load_segmenter(f"{source_file}:build", classes=3, spatial_dims=2)
    save_segmenter(tmp_path / "saved", segmenter.module, segmenter.spec)
    source_file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refused("built by running the Python function.*--allow-pickle", StorageError, tmp_path / "saved")
    assert not (tmp_path / "ran").exists()


def test_a_methods_folder_remembers_the_function(source_file, tmp_path):
    spec = get_method("softmax")
    method = spec.build(spec.config(), load_segmenter(f"{source_file}:build", classes=3, spatial_dims=2))
    save_method(tmp_path / "method", method)
    with pytest.raises(StorageError, match="--allow-pickle"):
        load_method(tmp_path / "method")
    batch = Batch(torch.randn((1, 1, 8, 8), generator=torch.Generator().manual_seed(0)))
    again = load_method(tmp_path / "method", allow_pickle=True).predict(batch)
    before = method.predict(batch)
    assert torch.equal(again.segmentation.logits, before.segmentation.logits)
    assert all(torch.equal(again.uncertainty.maps[kind], m) for kind, m in before.uncertainty.maps.items())


def trained_state(path: Path, scale: float) -> dict[str, torch.Tensor]:
    state = load_segmenter(f"{path}:build", classes=3, spatial_dims=2).module.state_dict()
    return {name: value * scale for name, value in state.items()}


@pytest.mark.parametrize(
    "pack",
    [
        lambda s: s,
        lambda s: {
            "state_dict": s,
            "epoch": 3,
            "score": np.float64(0.5),
            "when": (np.int64(1), np.float32(2)),
        },
        lambda s: {"network_weights": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    ],
    ids=["plain", "state_dict", "parallel", "compiled"],
)
def test_checkpoints_only_when_trusted(source_file, tmp_path, pack, refused):
    state = trained_state(source_file, 3.0)
    torch.save(pack(state), tmp_path / "weights.pth")
    options = {"classes": 3, "spatial_dims": 2, "weights": tmp_path / "weights.pth"}
    refused("expected a .safetensors file.*--allow-pickle", StorageError, f"{source_file}:build", **options)
    segmenter = load_segmenter(f"{source_file}:build", allow_pickle=True, **options)
    assert all(torch.equal(segmenter.module.state_dict()[name], value) for name, value in state.items())


def test_safetensors_need_no_trust(source_file, tmp_path, refused):
    state = trained_state(source_file, 2.0)
    save_file(state, tmp_path / "w.safetensors")
    options = {"classes": 3, "spatial_dims": 2, "weights": tmp_path / "w.safetensors"}
    segmenter = load_segmenter(f"{source_file}:build", **options)
    assert torch.equal(segmenter.module.state_dict()["2.bias"], state["2.bias"])
    unfit = "weights do not fit.*with other shapes of 0.weight"
    refused(unfit, StorageError, f"{source_file}:build", **options, arguments={"width": 5})
    save_file({"0.weight": state["0.weight"], "extra": torch.zeros(1)}, tmp_path / "w.safetensors")
    refused("without 0.bias.*unknown extra", StorageError, f"{source_file}:build", **options)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_pickle_bomb_does_not_run(source_file, tmp_path, trusted, refused):
    target = tmp_path / "ran"
    torch.save({"state_dict": {}, "extra": Bomb(target)}, tmp_path / "bomb.pth")
    options = {"classes": 3, "spatial_dims": 2, "weights": tmp_path / "bomb.pth", "allow_pickle": trusted}
    refused("bomb.pth", StorageError, f"{source_file}:build", **options)
    assert not target.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file it opens is never closed
        torch.load(tmp_path / "bomb.pth", weights_only=False)
    assert target.exists()  # it is a bomb


def test_a_pickled_network_is_refused_even_when_trusted(source_file, tmp_path, refused):
    torch.save(nn.Conv2d(1, 3, 1), tmp_path / "w.pt")
    options = {"classes": 3, "spatial_dims": 2, "weights": tmp_path / "w.pt", "allow_pickle": True}
    refused("more than tensors and plain types", StorageError, f"{source_file}:build", **options)
    (tmp_path / "w.pt").write_bytes(b"")
    refused("w.pt", StorageError, f"{source_file}:build", **options)
    (tmp_path / "w.pt").unlink()
    refused("no such file", StorageError, f"{source_file}:build", **options)
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    refused("no weights found; its entries are epoch", StorageError, f"{source_file}:build", **options)


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("build", {}, "does not say its classes and spatial_dims"),
        ("build", {"classes": 3}, "does not say its spatial_dims"),
        ("build", {"arguments": {"depth": 3}}, "failed .*depth.*check its arguments"),
        ("biuld", {}, "has no function 'biuld'.*build"),
        ("not_a_network", {}, "returned int, expected a torch.nn.Module"),
        ("fails", {}, "failed .KeyError"),
        (
            "build",
            {"classes": 3, "spatial_dims": 2, "colour": 1},
            "no description of a segmenter called 'colour'",
        ),
        (
            "build",
            {"classes": 3, "spatial_dims": 2, "link": "logit"},
            "link='logit', expected softmax or sigmoid",
        ),
    ],
)
def test_functions_that_do_not_build_are_refused(source_file, function, options, message, refused):
    refused(message, ConfigError, f"{source_file}:{function}", **options)


def test_sources_that_are_nothing_are_refused(tmp_path, refused):
    refused(
        "no such file, expected Python code",
        ConfigError,
        f"{tmp_path}/lost.py:build",
        classes=2,
        spatial_dims=2,
    )
    refused("'lost_package' cannot be imported", ConfigError, "lost_package:build", classes=2, spatial_dims=2)
    refused("no segmenter found there", ConfigError, tmp_path)
    refused("weights and arguments go with", ConfigError, tmp_path, weights=tmp_path / "w.safetensors")
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    refused(
        "broken.py: cannot be imported", ConfigError, f"{tmp_path}/broken.py:build", classes=2, spatial_dims=2
    )
