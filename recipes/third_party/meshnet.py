"""brainchop's MeshNet (grey and white matter of T1 head MR) as a frozen segmenter.

    python recipes/third_party/meshnet.py --data DATA

reads `DATA/models/brainchop/models/model5_gw_ae` (TensorFlow.js: `model.json` and one binary file), builds the same
network in torch, wraps it, segments the MNI152 T1 that nilearn ships, and prints the Dice against nilearn's maps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sfumato import Batch, Preprocessing, wrap
from sfumato.metrics.overlap import dice_per_class
from sfumato.segmenters import FrozenSegmenter

MODEL = "model5_gw_ae"
CLASSES = ("background", "white matter", "grey matter")
"""Order of the logits, from the model's own `colormap3.json`."""
ACTIVATIONS = {"relu": nn.ReLU, "elu": nn.ELU}


def build(folder: str) -> nn.Module:
    """The network of a brainchop model folder, for volumes with RAS+ axes.

    MeshNet is a chain of dilated 3 x 3 x 3 convolutions on one resolution. brainchop conforms volumes as FreeSurfer
    does, with the axes left, inferior, anterior: the kernels are turned instead of the volume, which is the same for
    convolutions of stride 1.
    """
    path = Path(folder)
    description = json.loads((path / "model.json").read_text(encoding="utf-8"))
    weights = read_weights(path, description["weightsManifest"])
    layers: list[nn.Module] = []
    for layer in description["modelTopology"]["model_config"]["config"]["layers"]:
        config = layer["config"]
        if layer["class_name"] == "Conv3D":
            layers.append(convolution(config, weights))
        elif layer["class_name"] == "Activation":
            layers.append(ACTIVATIONS[config["activation"]](inplace=True))
        elif layer["class_name"] != "InputLayer":
            raise ValueError(
                f"{path}: a layer of the kind {layer['class_name']}, expected convolutions and activations"
            )
    return nn.Sequential(*layers)


def convolution(config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> nn.Conv3d:
    """One layer; TensorFlow keeps kernels as (L, I, A, in, out), torch as (out, in, R, A, S)."""
    kernel = weights[f"{config['name']}/kernel"].permute(4, 3, 0, 1, 2).flip(2, 3).permute(0, 1, 2, 4, 3)
    dilation = config["dilation_rate"][0]
    outputs, inputs, side = kernel.shape[:3]
    layer = nn.Conv3d(inputs, outputs, side, padding=dilation * (side // 2), dilation=dilation)
    with torch.no_grad():
        layer.weight.copy_(kernel)
        assert layer.bias is not None
        layer.bias.copy_(weights[f"{config['name']}/bias"])
    return layer


def read_weights(folder: Path, manifest: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Named tensors from TensorFlow.js' files: float32 values, one tensor after the other."""
    found = {}
    for group in manifest:
        values = np.concatenate([np.fromfile(folder / name, "<f4") for name in group["paths"]])
        for entry in group["weights"]:
            count = int(np.prod(entry["shape"]))
            found[entry["name"]] = torch.from_numpy(values[:count].reshape(entry["shape"]).copy())
            values = values[count:]
        if len(values):
            raise ValueError(
                f"{folder}: {len(values)} numbers are left over; the files do not fit model.json"
            )
    return found


def wrapped(folder: Path) -> FrozenSegmenter:
    """The frozen segmenter; intensities between 0 and 1, a millimetre per voxel, any grid."""
    return wrap(
        build(str(folder)),
        CLASSES,
        spatial_dims=3,
        divisor=1,
        window=(128, 128, 128),
        preprocessing=Preprocessing("none", percentiles=None, spacing=(1.0, 1.0, 1.0)),
        source=f"python:{Path(__file__).resolve()}:build",
        arguments={"folder": str(folder)},
    )


def mni152() -> tuple[np.ndarray, np.ndarray]:
    """nilearn's T1 (0 to 1, RAS+, 1 mm) and the likeliest class per voxel of its tissue maps."""
    from nilearn import datasets

    image = datasets.load_mni152_template(resolution=1).get_fdata(dtype=np.float32)
    white = datasets.load_mni152_wm_template(resolution=1).get_fdata(dtype=np.float32)
    grey = datasets.load_mni152_gm_template(resolution=1).get_fdata(dtype=np.float32)
    return image, np.argmax([1 - white - grey, white, grey], axis=0)


def main() -> None:
    """Segment and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds models/brainchop")
    options = parser.parse_args()
    segmenter = wrapped(options.data / "models" / "brainchop" / "models" / MODEL)
    print(f"{MODEL}: {sum(p.numel() for p in segmenter.module.parameters())} parameters")
    print(f"taps: {segmenter.widths}")
    image, truth = mni152()
    start = time.process_time()
    labels = segmenter.segment(Batch(torch.from_numpy(image)[None, None])).labels()[0].numpy()
    dice = dice_per_class(labels, truth, len(CLASSES))
    print(f"MNI152 T1, {image.shape}: {time.process_time() - start:.0f} CPU seconds")
    for name, value in zip(CLASSES[1:], dice, strict=True):
        print(f"Dice of {name}: {value:.3f}")


if __name__ == "__main__":
    main()
