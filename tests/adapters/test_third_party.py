"""The recipes for third-party networks."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sfumato import load_segmenter, read_image
from sfumato.metrics.overlap import dice_per_class
from sfumato.storage import save_segmenter


def load(name: str):
    """A recipe as a module."""
    path = Path(__file__).parents[2] / "recipes" / "third_party" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tensorflow_js(folder: Path, widths: list[int], dilations: list[int]) -> dict[str, np.ndarray]:
    """A tiny model as TensorFlow.js writes it; returns its weights."""
    rng = np.random.default_rng(0)
    layers: list[dict] = [{"class_name": "InputLayer", "config": {}}]
    entries, values = [], {}
    for k, (before, after, dilation) in enumerate(zip([1, *widths], widths, dilations, strict=False)):
        layers.append({"class_name": "Conv3D", "config": {"name": str(k), "dilation_rate": [dilation] * 3}})
        layers.append({"class_name": "Activation", "config": {"activation": "relu"}})
        for part, shape in (("kernel", (3, 3, 3, before, after)), ("bias", (after,))):
            values[f"{k}/{part}"] = rng.normal(size=shape).astype("<f4")
            entries.append({"name": f"{k}/{part}", "shape": list(shape)})
    np.concatenate([v.ravel() for v in values.values()]).tofile(folder / "weights.bin")
    manifest = [{"paths": ["weights.bin"], "weights": entries}]
    topology = {"model_config": {"config": {"layers": layers[:-1]}}}
    (folder / "model.json").write_text(json.dumps({"modelTopology": topology, "weightsManifest": manifest}))
    return values


def test_meshnet_turns_its_kernels_instead_of_the_volume(tmp_path):
    values = write_tensorflow_js(tmp_path, [3, 2], [1, 2])
    volume = torch.randn((1, 1, 9, 10, 11), generator=torch.Generator().manual_seed(0))
    x = volume.permute(0, 1, 2, 4, 3).flip(2, 3)  # right, anterior, superior to left, inferior, anterior
    for k, dilation in enumerate((1, 2)):
        kernel = torch.from_numpy(values[f"{k}/kernel"]).permute(4, 3, 0, 1, 2)
        x = F.conv3d(x, kernel, torch.from_numpy(values[f"{k}/bias"]), padding=dilation, dilation=dilation)
        x = x if k else x.relu()
    expected = x.flip(2, 3).permute(0, 1, 2, 4, 3)
    with torch.no_grad():
        torch.testing.assert_close(
            load("meshnet").build(str(tmp_path))(volume), expected, atol=1e-3, rtol=1e-4
        )


def test_meshnet_refuses_weights_that_do_not_fit(tmp_path):
    write_tensorflow_js(tmp_path, [3, 2], [1, 2])
    with (tmp_path / "weights.bin").open("ab") as file:
        file.write(b"1234")
    with pytest.raises(ValueError, match="1 numbers are left over"):
        load("meshnet").build(str(tmp_path))


@pytest.mark.needs_data
def test_wnet_finds_vessels(data_folder, tmp_path):
    recipe = load("wnet")
    segmenter = recipe.wrapped(data_folder / "models" / "lwnet" / "wnet_drive_state.npz")
    picture = read_image(data_folder / "chasedb1" / "images" / "Image_14L.jpg").array
    truth = read_image(data_folder / "chasedb1" / "masks_annotator1" / "Image_14L_1stHO.png").array[0] > 0
    dice = dice_per_class(recipe.segment(segmenter, picture), truth.astype(int), 2)[0]
    # The two observers of CHASE_DB1 agree with a mean Dice of 0.777 (the data set's README).
    assert 0.7 < dice < 0.85
    save_segmenter(tmp_path, segmenter.module, segmenter.spec)
    assert load_segmenter(tmp_path, allow_pickle=True).spec == segmenter.spec


@pytest.mark.needs_data
def test_brainchops_meshnet_is_wrapped(data_folder):
    segmenter = load("meshnet").wrapped(data_folder / "models" / "brainchop" / "models" / "model5_gw_ae")
    # 5,598 parameters: the README of the data.
    assert sum(p.numel() for p in segmenter.module.parameters()) == 5598
    assert segmenter.widths == {"18:input": 5}
