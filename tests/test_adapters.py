"""Networks of other programs: loaded, described, saved beside a method and built again, without running their code."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfumato.errors import ConfigError, SfumatoError, StorageError, TapError, UnknownNameError
from sfumato.imaging import Geometry
from sfumato.pipeline.grid import ModelGrid
from sfumato.pipeline.prepare import normalise
from sfumato.segmenters import FrozenSegmenter, Preprocessing, build_preset, wrap
from sfumato.storage import fingerprint, load_segmenter, load_segmenter_folder, save_segmenter
from sfumato.types import Batch, Link

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


def image(shape: tuple[int, ...], channels: int = 1) -> torch.Tensor:
    return torch.randn((1, channels, *shape), generator=torch.Generator().manual_seed(0))


def refused(message: str, kind: type[SfumatoError], source: str | Path, **options) -> None:
    with pytest.raises(kind, match=message) as caught:
        load_segmenter(source, **options)
    assert "\n" not in str(caught.value)


def survives_saving(
    segmenter: FrozenSegmenter, folder: Path, shape: tuple[int, ...], allow_pickle: bool = False
) -> None:
    """What a method's folder does with a segmenter: save, load, and compare every number."""
    save_segmenter(folder, segmenter.module, segmenter.spec)
    again = load_segmenter(folder, allow_pickle=allow_pickle)
    assert again.spec == segmenter.spec
    batch = Batch(image(shape, segmenter.spec.channels))
    before, after = segmenter.segment(batch), again.segment(batch)
    assert torch.equal(before.logits, after.logits)
    assert list(before.features) == list(after.features)
    assert all(torch.equal(before.features[name], after.features[name]) for name in before.features)


class Bomb:
    """A pickle that writes a file when it is loaded the ordinary way."""

    def __init__(self, target: Path):
        self.target = str(target)

    def __reduce__(self):
        return open, (self.target, "w")


# Our own folders


def saved_preset(folder: Path) -> FrozenSegmenter:
    torch.manual_seed(0)
    network = build_preset("resunet2d", 1, 3, widths=(4, 6))
    segmenter = wrap(network, 3, spatial_dims=2, source="preset:resunet2d", arguments={"widths": [4, 6]})
    save_segmenter(folder, segmenter.module, segmenter.spec)
    return segmenter


def test_our_folder(tmp_path):
    survives_saving(saved_preset(tmp_path / "first"), tmp_path / "second", (16, 16))


def test_a_methods_folder_is_a_segmenter_too(tmp_path):
    segmenter = saved_preset(tmp_path / "segmenter")
    assert load_segmenter(tmp_path).spec == segmenter.spec


def test_taps_of_a_saved_segmenter_can_be_chosen_again(tmp_path):
    saved_preset(tmp_path)
    assert load_segmenter(tmp_path, taps=["image"]).spec.taps == ("image",)
    refused("no submodule 'nowhere'", TapError, tmp_path, taps=["nowhere"])


def test_a_saved_segmenter_needs_no_description(tmp_path):
    saved_preset(tmp_path)
    assert load_segmenter(tmp_path, classes=(), channels=None, link="").spec.channels == 1
    refused("says its channels, link itself", ConfigError, tmp_path, channels=1, link="softmax")


def change(path: Path, **content) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | content))


def test_damaged_folders_are_refused(tmp_path):
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


# Python functions


@pytest.fixture
def source_file(tmp_path) -> Path:
    path = tmp_path / "networks.py"
    path.write_text(SOURCE)
    return path


def test_a_function_in_a_file(source_file, tmp_path):
    segmenter = load_segmenter(f"{source_file}:build", classes=3, spatial_dims=2, arguments={"width": 6})
    assert segmenter.spec.source == f"python:{source_file}:build"
    assert segmenter.widths == {"2:input": 6}
    survives_saving(segmenter, tmp_path / "saved", (16, 16), allow_pickle=True)


def test_a_function_in_a_package(source_file, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    segmenter = load_segmenter("networks:build", classes=("back", "a", "b"), spatial_dims=2, window=(64, 32))
    assert segmenter.spec.source == "python:networks:build"
    assert (segmenter.spec.classes, segmenter.spec.window) == (("back", "a", "b"), (64, 32))


def test_a_saved_folder_runs_no_function_unless_it_is_trusted(source_file, tmp_path):
    segmenter = load_segmenter(f"{source_file}:build", classes=3, spatial_dims=2)
    save_segmenter(tmp_path / "saved", segmenter.module, segmenter.spec)
    source_file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    refused("built by running the Python function.*--allow-pickle", StorageError, tmp_path / "saved")
    assert not (tmp_path / "ran").exists()


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
def test_checkpoints_only_when_trusted(source_file, tmp_path, pack):
    state = trained_state(source_file, 3.0)
    torch.save(pack(state), tmp_path / "weights.pth")
    options = {"classes": 3, "spatial_dims": 2, "weights": tmp_path / "weights.pth"}
    refused("expected a .safetensors file.*--allow-pickle", StorageError, f"{source_file}:build", **options)
    segmenter = load_segmenter(f"{source_file}:build", allow_pickle=True, **options)
    assert all(torch.equal(segmenter.module.state_dict()[name], value) for name, value in state.items())


def test_safetensors_need_no_trust(source_file, tmp_path):
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
def test_a_pickle_bomb_does_not_run(source_file, tmp_path, trusted):
    target = tmp_path / "ran"
    torch.save({"state_dict": {}, "extra": Bomb(target)}, tmp_path / "bomb.pth")
    options = {"classes": 3, "spatial_dims": 2, "weights": tmp_path / "bomb.pth", "allow_pickle": trusted}
    refused("bomb.pth", StorageError, f"{source_file}:build", **options)
    assert not target.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the file it opens is never closed
        torch.load(tmp_path / "bomb.pth", weights_only=False)
    assert target.exists()  # it is a bomb


def test_a_pickled_network_is_refused_even_when_trusted(source_file, tmp_path):
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
def test_functions_that_do_not_build_are_refused(source_file, function, options, message):
    refused(message, ConfigError, f"{source_file}:{function}", **options)


def test_sources_that_are_nothing_are_refused(tmp_path):
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


# TorchScript


def scripted(dims: int, classes: int, path: Path) -> nn.Module:
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    network = nn.Sequential(convolution(1, 4, 3, padding=1), nn.ReLU(), convolution(4, classes, 1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(network, image((8,) * dims)).save(str(path))
    return network


@pytest.mark.parametrize(
    ("dims", "link", "outputs"), [(2, "softmax", 3), (3, "softmax", 2), (2, "sigmoid", 1)]
)
def test_torchscript(tmp_path, dims, link, outputs):
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


def test_a_checkpoint_is_not_torchscript(tmp_path):
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pt")
    refused("not a TorchScript file; a checkpoint needs", StorageError, tmp_path / "w.pt", allow_pickle=True)
    refused("no segmenter found there|no such file", SfumatoError, tmp_path / "lost.ts", allow_pickle=True)


# MONAI bundles

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
def test_a_monai_bundle(tmp_path):
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
def test_a_bundles_checkpoint_only_when_trusted(tmp_path):
    network = write_bundle(tmp_path)
    (tmp_path / "models/model.safetensors").unlink()
    refused("no weights, expected models/model.safetensors", StorageError, tmp_path)
    torch.save(network.state_dict(), tmp_path / "models/model.pt")
    refused("--allow-pickle", StorageError, tmp_path)
    loaded = load_segmenter(tmp_path, allow_pickle=True)
    assert fingerprint(loaded.module) == fingerprint(network)


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
def test_a_bundles_code_is_not_run(tmp_path, monkeypatch, changes, message):
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
def test_preprocessing_is_never_guessed(tmp_path, transform):
    write_bundle(tmp_path, transforms=[transform])
    refused("no counterpart here; pass preprocessing yourself", ConfigError, tmp_path)
    given = Preprocessing("unit")
    assert load_segmenter(tmp_path, preprocessing=given).spec.preprocessing == given


@pytest.mark.needs_monai
def test_a_caller_completes_a_bundle_and_may_not_contradict_it(tmp_path):
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
def test_damaged_bundles_are_refused(tmp_path):
    write_bundle(tmp_path)
    (tmp_path / "configs/inference.json").write_text('{"classes": 2}')
    refused("expected a network_def with a _target_", ConfigError, tmp_path)
    (tmp_path / "configs/inference.json").write_text("network_def: UNet")
    refused("not readable as JSON", StorageError, tmp_path)
    (tmp_path / "configs/inference.json").unlink()
    refused("no such file", StorageError, tmp_path)


# nnU-Net

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
def test_nnunet_gives_the_same_numbers_on_our_axes(tmp_path, transpose):
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
def test_a_flat_nnunet_walks_through_volumes(tmp_path):
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
def test_nnunet_on_pictures_keeps_rows_and_columns(tmp_path):
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
def test_nnunet_that_has_no_counterpart_is_refused(tmp_path, configuration, changes, message):
    write_results(tmp_path, 3, configuration, **changes)
    refused(message, ConfigError, tmp_path, allow_pickle=True)


@pytest.mark.needs_nnunet
def test_nnunet_plans_build_nothing_else(tmp_path):
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


def test_an_unknown_scheme_in_a_saved_folder_is_refused(tmp_path):
    segmenter = saved_preset(tmp_path)
    change(tmp_path / "segmenter.json", spec=segmenter.spec.to_json() | {"source": "web:http://example.org"})
    with pytest.raises(ConfigError, match="which cannot be built again"):
        load_segmenter_folder(tmp_path, allow_pickle=True)
