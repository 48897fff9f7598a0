"""nnU-Net v2 results folders, against the network that nnU-Net itself builds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, StorageError
from sfumato.imaging import Geometry, Image
from sfumato.pipeline.case import predict_image
from sfumato.pipeline.grid import ModelGrid
from sfumato.pipeline.prepare import normalise
from sfumato.registry import get_method
from sfumato.segmenters import Preprocessing
from sfumato.storage import load_segmenter
from sfumato.types import Batch

INTENSITIES = {"mean": 80.0, "std": 30.0, "percentile_00_5": -20.0, "percentile_99_5": 220.0}


def write_results(folder: Path, dims: int, configuration: dict | None = None, **changes) -> nn.Module:
    """A tiny results folder as nnU-Net v2 leaves it behind; returns its network, built by nnU-Net."""
    builder = pytest.importorskip("nnunetv2.utilities.get_network_from_plans")
    kernels, strides = [[1, 3, 3], [3, 3, 3], [3, 3, 5]], [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    kind = f"{dims}d"
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 3,
            "features_per_stage": [4, 6, 8],
            "conv_op": f"torch.nn.modules.conv.Conv{kind}",
            "kernel_sizes": [k[3 - dims :] for k in kernels],
            "strides": [s[3 - dims :] for s in strides],
            "n_conv_per_stage": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{kind}",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    chosen = {
        "patch_size": [10, 32, 24][3 - dims :],
        "spacing": [5.0, 1.25, 1.5][3 - dims :],
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
        **(configuration or {}),
    }
    plans = {
        "configurations": {"base": chosen, "wanted": {"inherits_from": "base"}},
        "transpose_forward": [0, 1, 2],
        "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
    }
    labels = {"background": 0, "liver": 1, "tumour": 2}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    for name, content in (("plans", plans), ("dataset", dataset)):
        content |= {k: v for k, v in changes.items() if k in content}
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    kwargs, imports = architecture["arch_kwargs"], architecture["_kw_requires_import"]
    name = architecture["network_class_name"]
    network = builder.get_network_from_plans(name, kwargs, imports, 1, 3, deep_supervision=True)
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": torch.optim.SGD(network.parameters(), 0.1).state_dict(),
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float32(0.6)]},
        "_best_ema": np.float64(0.6),
        "init_args": {"configuration": "wanted", "fold": 0, "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    (folder / "fold_0").mkdir(exist_ok=True)
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    return network.eval()


@pytest.mark.needs_nnunet
@pytest.mark.parametrize("transpose", [[0, 1, 2], [1, 2, 0], [2, 0, 1]])
def test_nnunet_gives_the_same_numbers_on_our_axes(tmp_path, transpose, image, refused, survives_saving):
    network = write_results(tmp_path / "results", 3, transpose_forward=transpose)
    refused("--allow-pickle", StorageError, tmp_path / "results")
    segmenter = load_segmenter(tmp_path / "results", allow_pickle=True)
    shape = tuple(2 * d for d in segmenter.spec.divisors)
    volume = image(shape)  # axes x, y, z as in RAS+
    with torch.no_grad():
        read = volume.permute(0, 1, 4, 3, 2)  # nnU-Net reads z, y, x ...
        output = network(read.permute(0, 1, *(2 + t for t in transpose)))  # ... and transposes
    output = output[0] if isinstance(output, list) else output
    back = [transpose.index(axis) for axis in range(3)]
    expected = output.permute(0, 1, *(2 + b for b in back)).permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(segmenter.segment(Batch(volume)).logits, expected, atol=1e-5, rtol=1e-4)
    survives_saving(segmenter, tmp_path / "saved", shape)


@pytest.mark.needs_nnunet
def test_nnunets_plans_are_understood(tmp_path):
    write_results(tmp_path, 3)
    spec = load_segmenter(tmp_path / "fold_0", allow_pickle=True).spec
    assert spec.classes == ("background", "liver", "tumour")
    assert (spec.window, spec.divisor) == ((24, 32, 10), (4, 4, 2))
    assert spec.preprocessing.spacing == (1.5, 1.25, 5.0)
    values = np.array([[[[-50.0, 20.0, 80.0, 500.0]]]], dtype=np.float32)
    # CTNormalization: clip to the percentiles, subtract the mean, divide by the standard deviation.
    expected = (np.clip(values, -20.0, 220.0) - 80.0) / 30.0
    np.testing.assert_allclose(normalise(values, spec.preprocessing, together=False), expected, rtol=1e-6)
    assert spec.taps == ("encoder.stages.2", "decoder.stages.0", "decoder.seg_layers.1:input")


@pytest.mark.needs_nnunet
def test_a_flat_nnunet_walks_through_volumes(tmp_path, image):
    scheme = {"normalization_schemes": ["ZScoreNormalization"]}
    network = write_results(tmp_path, 2, scheme)
    segmenter = load_segmenter(tmp_path, allow_pickle=True)
    spec = segmenter.spec
    assert (spec.spatial_dims, spec.window) == (2, (24, 32))
    assert spec.preprocessing == Preprocessing("zscore", None, spacing=(1.5, 1.25, 0.0))
    grid = ModelGrid(
        Geometry((12, 10, 4), np.diag([3.0, 2.5, 7.0, 1.0])),
        slice_first=True,
        spacing=spec.preprocessing.spacing,
    )
    assert grid.to_network(np.zeros((1, 12, 10, 4), np.float32), 1).shape == (1, 4, 24, 20)  # slices are kept
    plane = image((16, 24))  # rows x, columns y
    with torch.no_grad():
        expected = network(plane.transpose(2, 3))
    expected = (expected[0] if isinstance(expected, list) else expected).transpose(2, 3)
    torch.testing.assert_close(segmenter.segment(Batch(plane)).logits, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.needs_nnunet
@pytest.mark.parametrize("dims", [2, 3])
def test_nnunet_on_a_file_of_any_size(tmp_path, dims):
    write_results(tmp_path, dims)
    spec = get_method("softmax")
    method = spec.build(spec.config(), load_segmenter(tmp_path, allow_pickle=True))
    array = np.random.default_rng(0).normal(60, 40, (1, 27, 31, 7)).astype(np.float32)
    result = predict_image(method, Image(array, Geometry((27, 31, 7), np.diag([-1.5, 1.0, 4.0, 1.0]))))
    assert result.segmentation.shape == (27, 31, 7)
    assert all(np.isfinite(np.asarray(m, np.float32)).all() for m in result.maps.values())


@pytest.mark.needs_nnunet
def test_nnunet_on_pictures_keeps_rows_and_columns(tmp_path, image):
    scheme = {"normalization_schemes": ["ZScoreNormalization"]}
    network = write_results(tmp_path, 2, scheme, file_ending=".png")
    segmenter = load_segmenter(tmp_path, allow_pickle=True)
    assert (segmenter.spec.window, segmenter.spec.preprocessing.spacing) == ((32, 24), None)
    with torch.no_grad():
        expected = network(image((16, 24)))
    expected = expected[0] if isinstance(expected, list) else expected
    torch.testing.assert_close(
        segmenter.segment(Batch(image((16, 24)))).logits, expected, atol=1e-5, rtol=1e-4
    )


@pytest.mark.needs_nnunet
@pytest.mark.parametrize(
    ("configuration", "changes", "message"),
    [
        ({"previous_stage": "3d_lowres"}, {}, "second stage of a cascade"),
        ({"use_mask_for_norm": [True]}, {}, "non-zero part only has no counterpart"),
        (
            {"normalization_schemes": ["RescaleTo01Normalization"]},
            {},
            "RescaleTo01Normalization has no counterpart",
        ),
        ({}, {"labels": {"background": 0, "whole": [1, 2], "core": 2}}, "region-based labels overlap"),
        ({}, {"configurations": {}}, "no configuration 'wanted'"),
    ],
)
def test_nnunet_that_has_no_counterpart_is_refused(tmp_path, configuration, changes, message, refused):
    write_results(tmp_path, 3, configuration, **changes)
    refused(message, ConfigError, tmp_path, allow_pickle=True)


@pytest.mark.needs_nnunet
def test_nnunet_plans_build_nothing_else(tmp_path, refused):
    write_results(tmp_path, 3)
    plans = json.loads((tmp_path / "plans.json").read_text())
    architecture = plans["configurations"]["base"]["architecture"]
    for change, message in (
        ({"network_class_name": "os.system"}, "'os.system' is not one of dynamic_network_architectures"),
        (
            {"network_class_name": "dynamic_network_architectures.architectures.unet.Lost"},
            "has no network 'Lost'",
        ),
    ):
        plans["configurations"]["base"]["architecture"] = architecture | change
        (tmp_path / "plans.json").write_text(json.dumps(plans))
        refused(message, ConfigError, tmp_path, allow_pickle=True)
    kwargs = architecture["arch_kwargs"] | {"nonlin": "os.system"}
    plans["configurations"]["base"]["architecture"] = architecture | {"arch_kwargs": kwargs}
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    refused("'os.system', expected a layer of torch.nn", ConfigError, tmp_path, allow_pickle=True)
    (tmp_path / "fold_0/checkpoint_final.pth").unlink()
    refused("no weights, expected fold_0", StorageError, tmp_path, allow_pickle=True)
