"""TorchScript files."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from sfumato.errors import SfumatoError, StorageError
from sfumato.storage import load_segmenter
from sfumato.types import Batch


def scripted(dims: int, classes: int, path: Path) -> nn.Module:
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    network = nn.Sequential(convolution(1, 4, 3, padding=1), nn.ReLU(), convolution(4, classes, 1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, torch.zeros((1, 1, *[8] * dims))).save(str(path))
    return network


@pytest.mark.parametrize(
    ("dims", "link", "outputs"), [(2, "softmax", 3), (3, "softmax", 2), (2, "sigmoid", 1)]
)
def test_torchscript(tmp_path, dims, link, outputs, image, refused, survives_saving):
    network = scripted(dims, outputs, tmp_path / "net.ts")
    description = {"classes": max(outputs, 2), "spatial_dims": dims, "link": link}
    refused("TorchScript is a program.*--allow-pickle", StorageError, tmp_path / "net.ts", **description)
    segmenter = load_segmenter(tmp_path / "net.ts", allow_pickle=True, **description)
    assert segmenter.spec.taps == ("image", "logits")
    shape = (12,) * dims
    with torch.no_grad():
        torch.testing.assert_close(segmenter.segment(Batch(image(shape))).logits, network(image(shape)))
    survives_saving(segmenter, tmp_path / "saved", shape, allow_pickle=True)
    refused("TorchScript is a program", StorageError, tmp_path / "saved")


def test_a_checkpoint_is_not_torchscript(tmp_path, refused):
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pt")
    refused("not a TorchScript file; a checkpoint needs", StorageError, tmp_path / "w.pt", allow_pickle=True)
    refused("no segmenter found there|no such file", SfumatoError, tmp_path / "lost.ts", allow_pickle=True)
