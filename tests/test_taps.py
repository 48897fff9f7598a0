"""Features by name: what is captured, when it is refused, and that nothing is left behind."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref

import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, TapError
from sfumato.segmenters import TAP_PRESETS, build_preset, wrap
from sfumato.segmenters.auto_taps import choose_taps
from sfumato.types import Batch


def image(rows: int = 1, channels: int = 1, side: int = 16, dims: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((rows, channels, *[side] * dims), generator=generator)


class Pieces(nn.Module):
    """Returns and takes tuples, lists, dictionaries and keywords; calls one module twice; overwrites in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.split = Split()
        self.named = Named()
        self.unused = nn.Conv2d(1, 1, 1)
        self.activation = nn.ReLU(inplace=True)
        self.classifier = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.stem(x))
        x = self.twice(self.twice(x))
        first, (second, third) = self.split(x)
        x = self.named(value=first + second, scale=2.0)["kept"] + third
        x += 1
        return self.classifier(x)


class Split(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return x, [2 * x, 3 * x]


class Named(nn.Module):
    def forward(self, *, value: torch.Tensor, scale: float) -> dict[str, torch.Tensor]:
        return {"thrown": -value, "kept": value * scale}


def tapped(taps: list[str], network: nn.Module | None = None):
    segmenter = wrap(network or Pieces(), 3, spatial_dims=2, taps=taps)
    return segmenter.segment(Batch(image())).features


def reference() -> dict[str, torch.Tensor]:
    network = Pieces().eval()
    with torch.no_grad():
        stem = network.stem(image())
        once = network.twice(stem.relu())
        twice = network.twice(once)
        named = 6 * twice
        return {
            "stem": stem,
            "activation": stem.relu(),
            "twice:input": once,
            "twice": twice,
            "split": twice,
            "split:1": 2 * twice,
            "split:1:1": 3 * twice,
            "named:input": 3 * twice,
            "named:input:value": 3 * twice,
            "named": -3 * twice,
            "named:kept": named,
            "classifier:input": named + 3 * twice + 1,
        }


@pytest.mark.parametrize("tap", list(reference()))
def test_tap_carries_what_the_network_computed_there(tap):
    torch.testing.assert_close(tapped([tap])[tap], reference()[tap])


def test_overwritten_taps_are_copied_from_the_first_dry_run_on():
    segmenter = wrap(Pieces(), 3, spatial_dims=2, taps=["stem", "activation:input", "twice"])
    calls = []
    handle = segmenter.module.classifier.register_forward_hook(lambda *_: calls.append(1))
    features = segmenter.segment(Batch(image())).features
    handle.remove()
    assert len(calls) == 1  # what must be copied was learnt while wrapping: no second pass
    torch.testing.assert_close(features["stem"], reference()["stem"])
    assert features["stem"].min() < 0  # the activation after it writes zeros there


class OverwritesWhenDark(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(1, 4, 1)
        self.classifier = nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        if x.mean() < -10:
            y.mul_(0)
        return self.classifier(y)


def test_overwriting_that_depends_on_the_image_is_noticed():
    segmenter = wrap(OverwritesWhenDark(), 2, spatial_dims=2, taps=["stem"])
    dark = image() - 100
    with torch.no_grad():
        expected = segmenter.module.stem(dark)
    found = segmenter.segment(Batch(dark)).features["stem"]
    torch.testing.assert_close(found, expected)
    assert found.abs().min() > 0


class OverwritesItsInput(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.ReLU(inplace=True), nn.Conv2d(1, 2, 1))


def test_a_network_that_overwrites_its_input_does_not_touch_the_batch():
    batch = Batch(image())
    segmentation = wrap(OverwritesItsInput(), 2, spatial_dims=2, taps=["image", "0:input"]).segment(batch)
    assert torch.equal(batch.image, image())
    assert torch.equal(segmentation.features["image"], image())
    assert torch.equal(segmentation.features["0:input"], image())


def test_taps_work_inside_inference_mode():
    segmenter = wrap(Pieces(), 3, spatial_dims=2, taps=["stem"])
    with torch.inference_mode():
        batch = Batch(image())
        features = segmenter.segment(batch).features
    torch.testing.assert_close(features["stem"], reference()["stem"])


def hook_count(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_no_hook_and_no_tensor_is_left_behind():
    segmenter = wrap(Pieces(), 3, spatial_dims=2, taps=["stem", "twice:input"])
    gc.collect()
    gc.disable()  # so that only reference counts free the tensors
    try:
        segmentation = segmenter.segment(Batch(image()))
        watch = [weakref.ref(f) for f in segmentation.features.values()]
        del segmentation
        assert [w() for w in watch] == [None, None]
    finally:
        gc.enable()
    assert hook_count(segmenter.module) == 0


def test_hooks_are_removed_when_the_network_fails():
    segmenter = wrap(build_preset("resunet2d", 1, 2, widths=(4, 8)), 2, spatial_dims=2)

    def fail(*_):
        raise RuntimeError("out of memory")

    handle = segmenter.module.classifier.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        segmenter.segment(Batch(image()))
    handle.remove()
    assert hook_count(segmenter.module) == 0


def test_two_segmenters_on_one_network_do_not_interfere():
    network = Pieces()
    first = wrap(network, 3, spatial_dims=2, taps=["stem"])
    second = wrap(network, 3, spatial_dims=2, taps=["twice", "image"])
    assert list(first.segment(Batch(image())).features) == ["stem"]
    assert list(second.segment(Batch(image())).features) == ["twice", "image"]
    assert hook_count(network) == 0


def test_a_deep_copy_taps_its_own_network():
    segmenter = wrap(Pieces(), 3, spatial_dims=2, taps=["stem"])
    twin = copy.deepcopy(segmenter)
    with torch.no_grad():
        twin.module.stem.weight.zero_()
        twin.module.stem.bias.zero_()
    assert twin.segment(Batch(image())).features["stem"].abs().max() == 0
    torch.testing.assert_close(segmenter.segment(Batch(image())).features["stem"], reference()["stem"])


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        (["stemm"], "no submodule 'stemm'.*nearest are stem"),
        (["stem", "stem"], "name a tap twice"),
        (["unused"], "'unused' did not fire"),
        (["split:7"], "nothing at '7'.*tuple of 2"),
        (["named:lost"], "nothing at 'lost'.*thrown, kept"),
        (["named:input:scale"], "carries float"),
        ("everywhere", "'auto', 'segwithu' or a list"),
    ],
)
def test_unusable_taps_are_refused_in_one_sentence(taps, message):
    with pytest.raises(TapError, match=message) as caught:
        wrap(Pieces(), 3, spatial_dims=2, taps=taps)
    assert "\n" not in str(caught.value)


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Flatten(2)
        self.windows = FoldsWindowsIntoTheBatch()
        self.classifier = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.tokens(x)
        self.windows(x)
        return self.classifier(x)


class FoldsWindowsIntoTheBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(4, 1, x.shape[2] // 2, x.shape[3] // 2)


@pytest.mark.parametrize("tap", ["tokens", "windows"])
def test_taps_that_are_no_feature_map_are_refused(tap):
    with pytest.raises(TapError, match=rf"'{tap}' has the shape .* expected \(1, width, \*grid\)"):
        wrap(Tokens(), 2, spatial_dims=2, taps=[tap])


def test_an_alias_of_a_submodule_can_be_tapped():
    network = Pieces()
    network.add_module("alias", network.stem)
    torch.testing.assert_close(tapped(["alias"], network)["alias"], reference()["stem"])


def test_torchscript_has_only_image_and_logits():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.trace(Pieces().eval(), image())
    assert wrap(scripted, 3, spatial_dims=2).spec.taps == ("image", "logits")
    with pytest.raises(TapError, match="hooks do not run in TorchScript"):
        wrap(scripted, 3, spatial_dims=2, taps=["stem"])


def grids(
    network: nn.Module, dims: int, classes: int = 3, **options
) -> list[tuple[str, int, tuple[int, ...]]]:
    """(name, channels, image side / tap side per axis) of the automatic taps."""
    segmenter = wrap(network, classes, spatial_dims=dims, **options)
    side = max(32, 2 * max(segmenter.spec.divisors))
    features = segmenter.segment(Batch(image(side=side, dims=dims))).features
    return [(k, v.shape[1], tuple(side // n for n in v.shape[2:])) for k, v in features.items()]


@pytest.mark.parametrize("dims", [2, 3])
def test_auto_taps_of_our_unet(dims):
    network = build_preset(f"resunet{dims}d", 1, 3, widths=(4, 6, 8))
    assert grids(network, dims) == [
        ("encoder.2", 8, (4,) * dims),
        ("decoder.0", 6, (2,) * dims),
        ("classifier:input", 4, (1,) * dims),
    ]


@pytest.mark.parametrize("dims", [2, 3])
def test_auto_taps_of_one_resolution(dims):
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    layers: list[nn.Module] = []
    for width, dilation in ((1, 1), (5, 2), (5, 4)):
        layers += [convolution(width, 5, 3, padding=dilation, dilation=dilation), nn.ReLU(inplace=True)]
    assert grids(nn.Sequential(*layers, convolution(5, 3, 1)), dims) == [("6:input", 5, (1,) * dims)]


def test_auto_taps_of_a_function_are_image_and_logits():
    function = lambda x: torch.cat([x, -x], 1)
    assert [name for name, *_ in grids(function, 2, 2)] == ["image", "logits"]


class UpsampledLogits(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3, 2, 1),
            nn.Conv2d(4, 6, 3, 2, 1),
            nn.Conv2d(6, 3, 1),
            nn.Upsample(scale_factor=4),
        )


def test_auto_taps_fall_back_to_the_logits_where_features_are_coarse():
    assert grids(UpsampledLogits(), 2) == [("1", 6, (4, 4)), ("logits", 3, (1, 1))]


def monai_networks(dims: int) -> dict[str, tuple[nn.Module, list[int]]]:
    """Name -> (network, channels of its automatic taps; 24 and 8 are a decoder feature beside its skip)."""
    nets = pytest.importorskip("monai.networks.nets")
    small = {"spatial_dims": dims, "in_channels": 1, "out_channels": 3}
    unet = {"channels": (4, 8, 16), "strides": (2, 2)}
    swin = {"feature_size": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)}
    found = {
        "UNet": (nets.UNet(**small, **unet), [24, 8, 3]),
        "UNet with residual units": (nets.UNet(**small, **unet, num_res_units=1), [24, 8, 3]),
        "BasicUNet": (nets.BasicUNet(**small, features=(4, 4, 6, 8, 10, 4)), [6, 4, 4]),
        "SegResNet": (
            nets.SegResNet(**small, init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1)),
            [16, 8, 8],
        ),
        "DynUNet": (build_preset(f"dynunet{dims}d", 1, 3, widths=(4, 6, 8, 8)), [8, 6, 4]),
    }
    if dims == 2:  # at 64^3 it takes a minute
        found["SwinUNETR"] = (nets.SwinUNETR(**small, **swin), [24, 12, 12])
    return found


@pytest.mark.needs_monai
@pytest.mark.parametrize("dims", [2, 3])
def test_auto_taps_of_monai_networks_are_decoder_features_at_three_resolutions(dims):
    torch.manual_seed(0)
    for name, (network, widths) in monai_networks(dims).items():
        found = grids(network, dims)
        assert [width for _, width, _ in found] == widths, name
        assert [factors for *_, factors in found] == [(4,) * dims, (2,) * dims, (1,) * dims], name


@pytest.mark.needs_monai
def test_the_papers_taps_of_dynunet():
    pytest.importorskip("monai")
    network = build_preset("dynunet2d", 1, 4)
    segmenter = wrap(network, 4, spatial_dims=2, taps="segwithu")
    assert segmenter.spec.taps == TAP_PRESETS["segwithu"]
    features = segmenter.segment(Batch(image(side=32))).features
    # SegWithU, section 2: 256 = 128 + 128 channels at S/4, 128 = 64 + 64 at S/2, 32 at S.
    assert [tuple(f.shape[1:]) for f in features.values()] == [(256, 8, 8), (128, 16, 16), (32, 32, 32)]


def test_auto_taps_need_a_network_that_runs():
    with pytest.raises(ConfigError, match="The network failed"):
        wrap(nn.Conv2d(5, 2, 1), 2, spatial_dims=2)


def test_choose_taps_leaves_no_hook():
    network = Pieces().eval()
    choose_taps(network, image(), 3)
    assert hook_count(network) == 0
