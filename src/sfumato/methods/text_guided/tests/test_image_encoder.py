"""Image encoders against the transformers library, published counts, and what is promised about sizes and channels."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sfumato.errors import ConfigError, StorageError, UnknownNameError
from sfumato.methods.text_guided.convnext import Block, ConvNext
from sfumato.methods.text_guided.image_encoder import (
    NAMES,
    Lite0Encoder,
    adapt_to_channels,
    build_image_encoder,
)
from sfumato.segmenters.efficientnet import WEIGHTS_PACKAGE, load_lite0

needs_lite0 = pytest.mark.skipif(
    find_spec(WEIGHTS_PACKAGE) is None, reason=f"{WEIGHTS_PACKAGE} is not installed"
)


def image(channels: int = 3, height: int = 64, width: int = 64, rows: int = 1) -> Tensor:
    return torch.randn(rows, channels, height, width, generator=torch.Generator().manual_seed(0))


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.fixture(scope="module")
def published_convnext(transformers: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """ConvNeXt-Tiny of the transformers library, its blocks no longer scaled to nothing, and its folder."""
    torch.manual_seed(0)
    network = transformers.ConvNextModel(transformers.ConvNextConfig()).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("layer_scale_parameter"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
    folder = tmp_path_factory.mktemp("convnext")
    network.save_pretrained(folder)
    return network, folder


# ---- ConvNeXt


def test_convnext_is_that_of_transformers(published_convnext: tuple[Any, Path]):
    network, folder = published_convnext
    encoder = build_image_encoder("convnext_tiny", str(folder)).eval()
    x = image(rows=2)
    with torch.no_grad():
        expected = network(x, output_hidden_states=True).hidden_states[1:]
        found = encoder(x)
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_convnext_weights_below_a_classifier_are_read(published_convnext: tuple[Any, Path], tmp_path: Path):
    network, folder = published_convnext
    state = {f"convnext.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    save_file({**state, "classifier.weight": torch.zeros(2, 768)}, tmp_path / "model.safetensors")
    encoder = build_image_encoder("convnext_tiny", str(tmp_path))
    theirs = network.encoder.stages[2].layers[8].pwconv1.weight
    assert torch.equal(encoder.stages[2][8].widen.weight, theirs)  # type: ignore[union-attr,index]


def test_convnext_has_the_published_counts():
    """Das et al.'s model, measured: stem 4 896; stages with what precedes them; a final norm that is never called."""
    encoder = ConvNext()
    parts = [
        count(reduction) + count(stage)
        for reduction, stage in zip(encoder.reductions, encoder.stages, strict=True)
    ]
    assert parts == [237_888, 992_256, 11_112_960, 15_470_592]
    assert count(encoder.stem) + count(encoder.stem_norm) == 4_896
    assert count(encoder) + count(nn.LayerNorm(768)) == 27_820_128


def test_convnext_block_by_loops():
    torch.manual_seed(0)
    block = Block(2).double()
    block.scale.data.uniform_(0.5, 1.5)
    x = image(2, 5, 4).double()
    expected = x.clone()
    for i in range(5):
        for j in range(4):
            filtered = []
            for c in range(2):
                kernel, value = block.depthwise.weight[c, 0], block.depthwise.bias[c].clone()  # type: ignore[index]
                for a in range(7):
                    for b in range(7):
                        row, column = i + a - 3, j + b - 3
                        if 0 <= row < 5 and 0 <= column < 4:
                            value = value + kernel[a, b] * x[0, c, row, column]
                filtered.append(value)
            y = torch.stack(filtered)
            y = (y - y.mean()) / (y.var(correction=0) + 1e-6).sqrt() * block.norm.weight + block.norm.bias
            y = block.widen.weight @ y + block.widen.bias
            y = y * (1 + torch.erf(y / 2**0.5)) / 2
            expected[0, :, i, j] += block.scale * (block.narrow.weight @ y + block.narrow.bias)
    torch.testing.assert_close(block(x), expected)


def test_convnext_starts_as_a_chain_of_reductions():
    torch.manual_seed(0)
    encoder = ConvNext().eval()
    x = image()
    found = encoder(x)
    x = encoder.stem_norm(encoder.stem(x))
    for reduction, features in zip(encoder.reductions, found, strict=True):
        x = reduction(x)
        torch.testing.assert_close(features, x, atol=1e-4, rtol=1e-4)


def test_convnext_weights_that_do_not_fit_are_named(published_convnext: tuple[Any, Path], tmp_path: Path):
    state = load_file(published_convnext[1] / "model.safetensors")
    missing = next(name for name in state if "dwconv" in name)
    save_file({n: v for n, v in state.items() if n != missing}, tmp_path / "model.safetensors")
    with pytest.raises(StorageError, match=r"without stages\.\d\.\d\.depthwise"):
        build_image_encoder("convnext_tiny", str(tmp_path))
    save_file({**state, "encoder.extra": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(StorageError, match=r"unknown tensor encoder\.extra"):
        build_image_encoder("convnext_tiny", str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StorageError, match=r"expected a file model\.safetensors or pytorch_model\.bin"):
        build_image_encoder("convnext_tiny", str(tmp_path / "empty"))


# ---- EfficientNet-Lite0


@needs_lite0
def test_lite0_has_imagenets_weights():
    encoder, expected = build_image_encoder("efficientnet_lite0").eval(), load_lite0()
    x = image()
    with torch.no_grad():
        found, features = encoder(x), expected(x)
    for ours, stride in zip(found, (4, 8, 16, 32), strict=True):
        assert torch.equal(ours, features[stride])


def test_lite0_without_its_package_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sfumato.segmenters.efficientnet.find_spec", lambda name: None)
    with pytest.raises(Exception, match=r"EfficientNet-Lite0 with ImageNet weights needs"):
        build_image_encoder("efficientnet_lite0")
    assert isinstance(build_image_encoder("efficientnet_lite0", "random"), Lite0Encoder)


# ---- both


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (33, 50), (1, 7)])
def test_any_size_gives_four_levels(name: str, height: int, width: int):
    encoder = build_image_encoder(name, "random").eval()
    with torch.no_grad():
        found = encoder(image(3, height, width))
    for features, stride, channels in zip(found, (4, 8, 16, 32), encoder.widths, strict=True):
        assert tuple(features.shape) == (1, channels, -(-height // stride), -(-width // stride))


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_see_each_other(name: str):
    encoder = build_image_encoder(name, "random").eval()
    x = image(rows=3)
    with torch.no_grad():
        together = encoder(x)
        for row in range(3):
            for all_rows, alone in zip(together, encoder(x[row : row + 1]), strict=True):
                torch.testing.assert_close(all_rows[row], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_all_parameters_train(name: str):
    encoder = build_image_encoder(name, "random", channels=2)
    assert all(module.training for module in encoder.modules())
    sum(features.square().mean() for features in encoder(image(2))).backward()  # type: ignore[union-attr]
    assert [n for n, p in encoder.named_parameters() if p.grad is None] == []


@needs_lite0
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_equal_channels_are_like_three_of_lite0(channels: int):
    gray = image(1)
    adapted = build_image_encoder("efficientnet_lite0", channels=channels).eval()
    with torch.no_grad():
        expected = build_image_encoder("efficientnet_lite0").eval()(gray.expand(-1, 3, -1, -1))
        found = adapted(gray.expand(-1, channels, -1, -1))
    for ours, three in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, three, atol=1e-4, rtol=1e-4)


def test_equal_channels_are_like_three_of_convnext(published_convnext: tuple[Any, Path]):
    gray, source = image(1), str(published_convnext[1])
    with torch.no_grad():
        expected = build_image_encoder("convnext_tiny", source).eval()(gray.expand(-1, 3, -1, -1))
        found = build_image_encoder("convnext_tiny", source, channels=1).eval()(gray)
    for ours, three in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, three, atol=1e-4, rtol=1e-4)


def test_no_channel_is_favoured_and_three_stay_as_they_are():
    convolution = nn.Conv2d(3, 4, 3, bias=False)
    before = convolution.weight.detach().clone()
    adapt_to_channels(convolution, 3)
    assert torch.equal(convolution.weight, before)
    adapt_to_channels(convolution, 4)
    assert convolution.in_channels == 4
    for channel in range(4):
        torch.testing.assert_close(convolution.weight[:, channel], before.sum(1) / 4)


def test_what_does_not_fit_is_named():
    with pytest.raises(UnknownNameError, match=r"image encoder called 'convnext'.*'convnext_tiny'"):
        build_image_encoder("convnext")
    with pytest.raises(ConfigError, match="channels=0, expected at least 1"):
        build_image_encoder("convnext_tiny", channels=0)
    with pytest.raises(ConfigError, match="weights='folder' for efficientnet_lite0"):
        build_image_encoder("efficientnet_lite0", "folder")


def test_pickled_weights_only_when_allowed(published_convnext: tuple[Any, Path], tmp_path: Path):
    network, source = published_convnext
    torch.save(load_file(source / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(StorageError, match=r"pytorch_model\.bin.*allow-pickle"):
        build_image_encoder("convnext_tiny", str(tmp_path))
    encoder = build_image_encoder("convnext_tiny", str(tmp_path), allow_pickle=True)
    assert isinstance(encoder, ConvNext)
    assert torch.equal(encoder.stem.weight, network.embeddings.patch_embeddings.weight)
