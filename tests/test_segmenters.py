"""Frozen segmenters: nothing about the network changes, and what it returns is understood or refused."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.pipeline.windows import plan_windows
from sfumato.segmenters import FrozenSegmenter, Preprocessing, SegmenterSpec, build_preset, wrap
from sfumato.segmenters.probe import LEAST_SIDE
from sfumato.types import Batch, Link


def image(rows: int = 1, channels: int = 1, side: int = 16, dims: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn((rows, channels, *[side] * dims), generator=generator)


class Normed(nn.Module):
    """Batch normalisation and dropout: both behave otherwise in train mode."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.drop(self.norm(self.first(x)).relu()))


class Returns(nn.Module):
    """A network whose output is packed some way."""

    def __init__(self, pack, classes: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.classifier = nn.Conv2d(1, classes, 1)
        self.pack = pack

    def forward(self, x: torch.Tensor):
        return self.pack(self.classifier(x))


def state_bytes(module: nn.Module) -> dict[str, bytes]:
    return {k: v.numpy().tobytes() for k, v in module.state_dict().items()}


def test_parameters_and_buffers_stay_even_when_the_caller_trains_a_parent():
    network = Normed()
    segmenter = wrap(network, 3, spatial_dims=2)
    before = state_bytes(network)
    expected = segmenter.segment(Batch(image())).logits
    parent = nn.ModuleList([network])
    for _ in range(3):
        parent.train()
        assert torch.equal(segmenter.segment(Batch(image())).logits, expected)
    assert not any(m.training for m in network.modules())
    assert state_bytes(network) == before


def test_nothing_requires_or_carries_a_gradient():
    segmenter = wrap(Normed(), 3, spatial_dims=2, taps=["image", "first", "logits"])
    segmentation = segmenter.segment(Batch(image().requires_grad_()))
    assert not any(p.requires_grad for p in segmenter.module.parameters())
    assert not segmentation.logits.requires_grad
    assert not any(f.requires_grad for name, f in segmentation.features.items() if name != "image")


def test_logits_are_the_bare_networks_bit_for_bit():
    network = build_preset("resunet2d", 2, 3, widths=(4, 8)).eval()
    with torch.no_grad():
        expected = network(image(2, channels=2))
    assert torch.equal(
        wrap(network, 3, spatial_dims=2, channels=2).segment(Batch(image(2, 2))).logits, expected
    )


def test_a_batch_equals_its_rows():
    segmenter = wrap(build_preset("resunet2d", 1, 3, widths=(4, 8)), 3, spatial_dims=2)
    together = segmenter.segment(Batch(image(3))).logits
    rows = [segmenter.segment(Batch(row[None])).logits for row in image(3)]
    torch.testing.assert_close(together, torch.cat(rows))


@pytest.mark.parametrize(
    "pack",
    [
        lambda z: z,
        lambda z: [z, z[..., ::2, ::2]],
        lambda z: (z[..., ::2, ::2], z),
        lambda z: {"aux": 0 * z, "out": z},
        lambda z: {"logits": z, "loss": None},
        lambda z: {"features": z[:, :1], "scores": z},
        lambda z: torch.stack([z, 0 * z], dim=1),
        lambda z: (z, {"hidden": [z.flatten(2)]}),
    ],
    ids=["tensor", "fine first", "fine last", "out", "logits", "by shape", "stacked", "nested"],
)
def test_full_resolution_logits_are_found(pack):
    expected = wrap(Returns(lambda z: z), 3, spatial_dims=2).segment(Batch(image())).logits
    assert torch.equal(wrap(Returns(pack), 3, spatial_dims=2).segment(Batch(image())).logits, expected)


def test_sigmoid_takes_one_logit():
    segmenter = wrap(Returns(lambda z: z, classes=1), 2, spatial_dims=2, link="sigmoid")
    segmentation = segmenter.segment(Batch(image()))
    assert segmentation.link is Link.SIGMOID
    assert segmentation.logits.shape[1] == 1
    torch.testing.assert_close(segmentation.probability()[:, 1:], segmentation.logits.sigmoid())


@pytest.mark.parametrize(
    ("classes", "options", "message"),
    [
        (4, {}, r"returned \(1, 3, .* expected logits of shape \(batch, 4, "),
        (2, {"link": "sigmoid"}, r"returned \(1, 3, .* expected logits of shape \(batch, 1, "),
        (3, {"link": "sigmoid"}, "a sigmoid link has exactly two classes"),
        ("vessel", {}, "classes='vessel', expected a list"),
        (3, {"link": "logit"}, "link='logit', expected softmax or sigmoid"),
        (1, {}, "expected background and at least one more"),
        (3, {"channels": 2}, "The network failed on an image of shape"),
        (3, {"window": (30, 30), "divisor": 4}, "expected sides that 4 divides"),
        (3, {"spatial_dims": 4}, "spatial_dims=4, expected 2 or 3"),
        (3, {"divisor": (1, 2, 2)}, "expected a positive number, or 2 of them"),
    ],
)
def test_a_wrong_description_is_refused(classes, options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        wrap(Returns(lambda z: z), classes, **({"spatial_dims": 2} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 1, 16), r"shape \(1, 1, 16\), expected \(batch, 1, H, W\)"),
        ((1, 1, 16, 16, 16), r"expected \(batch, 1, H, W\)"),
        ((1, 2, 16, 16), "2 image channels, expected 1"),
        ((1, 1, 18, 16), r"\(18, 16\) are not multiples of 4; pad to \(20, 16\)"),
    ],
)
def test_a_wrong_image_is_refused(shape, message):
    segmenter = wrap(build_preset("resunet2d", 1, 3, widths=(4, 6, 8)), 3, spatial_dims=2)
    with pytest.raises(InputError, match=message):
        segmenter.segment(Batch(torch.zeros(shape)))


class CountsItsCalls(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(1, 2, 1)
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("unset", torch.tensor(float("nan")))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.classifier(x)


def test_a_network_that_changes_itself_is_refused_and_restored():
    network = CountsItsCalls()
    with pytest.raises(ConfigError, match="changes its buffer 'calls'"):
        FrozenSegmenter(network, SegmenterSpec("", 2, 1, ("background", "cell"), (32, 32)))
    assert network.calls == 0


class Halves(nn.Module):
    """A U-Net's skeleton: halves each axis so many times, and needs grids that divide."""

    def __init__(self, times: tuple[int, ...], classes: int = 2):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[len(times)]
        transposed = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[len(times)]
        self.first = convolution(1, 3, 1)
        steps = [tuple(2 if level < n else 1 for n in times) for level in range(max(times))]
        self.down = nn.ModuleList(convolution(3, 3, 3, s, 1) for s in steps)
        self.up = nn.ModuleList(transposed(3, 3, s, s) for s in steps[::-1])
        self.classifier = convolution(3, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = [self.first(x)]
        for layer in self.down:
            skips.append(layer(skips[-1]))
        x = skips.pop()
        for layer in self.up:
            x = layer(x) + skips.pop()
        return self.classifier(x)


@pytest.mark.parametrize("times", [0, 1, 2, 3, 5])
def test_the_divisor_is_found(times):
    network = Halves((times, times)) if times else Returns(lambda z: z, 2)
    segmenter = wrap(network, 2, spatial_dims=2)
    assert segmenter.spec.divisor == 2**times
    assert segmenter.spec.window == (512, 512)


def test_the_divisor_is_found_in_three_dimensions_and_divides_the_window():
    assert wrap(Halves((3, 3, 1)), 2, spatial_dims=3, window=(48, 48, 24)).spec.divisor == 8
    with pytest.raises(ConfigError, match=r"The network failed|No divisor"):
        wrap(Halves((3, 3, 3)), 2, spatial_dims=3, window=(20, 20, 20))


def test_a_divisor_per_axis():
    segmenter = wrap(Halves((1, 3, 3)), 2, spatial_dims=3, divisor=(2, 8, 8), window=(6, 40, 40))
    assert segmenter.spec.divisors == (2, 8, 8)
    assert segmenter.segment(Batch(torch.zeros(1, 1, 6, 16, 24))).logits.shape == (1, 2, 6, 16, 24)
    with pytest.raises(InputError, match=r"pad to \(6, 16, 16\)"):
        segmenter.segment(Batch(torch.zeros(1, 1, 6, 10, 16)))
    plan = plan_windows((5, 33, 100), segmenter.spec.window, segmenter.spec.divisor)
    assert plan.window == (6, 40, 40)
    again = SegmenterSpec.from_json(json.loads(json.dumps(segmenter.spec.to_json())))
    assert again == segmenter.spec


class FixedSize(nn.Module):
    """Position embeddings: one grid only."""

    def __init__(self, side: int):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 1, side, side))
        self.classifier = nn.Conv2d(1, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(x + self.position)


def test_a_network_of_a_fixed_size_is_tried_on_its_window():
    side = 3 * LEAST_SIDE
    segmenter = wrap(FixedSize(side), 2, spatial_dims=2, window=(side, side), divisor=side)
    assert segmenter.spec.taps == ("classifier:input",)


def test_a_half_precision_network_answers_in_float32():
    segmenter = wrap(Normed().double(), 3, spatial_dims=2, taps=["first", "image"])
    segmentation = segmenter.segment(Batch(image()))
    assert segmentation.logits.dtype == torch.float32
    assert {f.dtype for f in segmentation.features.values()} == {torch.float32}


def test_torchs_own_shells_are_taken_off():
    network = Normed()
    assert wrap(nn.DataParallel(network), 3, spatial_dims=2).module is network
    assert wrap(torch.compile(network, backend="eager"), 3, spatial_dims=2).module is network  # type: ignore[arg-type]


def test_a_deep_copy_is_independent():
    segmenter = wrap(Normed(), 3, spatial_dims=2)
    twin = copy.deepcopy(segmenter)
    with torch.no_grad():
        twin.module.classifier.weight.zero_()
    assert not torch.equal(twin.segment(Batch(image())).logits, segmenter.segment(Batch(image())).logits)


def test_with_taps_keeps_everything_else():
    segmenter = wrap(
        Normed(), ["background", "a", "b"], spatial_dims=2, taps=["image"], label_values=[0, 4, 7]
    )
    again = segmenter.with_taps("auto")
    assert again.spec == replace(segmenter.spec, taps=("classifier:input",))
    assert again.widths == {"classifier:input": 4}


def test_default_windows_are_multiples_of_the_divisor():
    spec = wrap(build_preset("resunet3d", 1, 2, widths=(2, 3)), 2, spatial_dims=3, divisor=20).spec
    assert spec.window == (80, 80, 80)


def test_presets_by_name():
    torch.manual_seed(0)
    assert build_preset("resunet2d", 1, 2).divisor == 16
    assert build_preset("resunet3d", 1, 2).divisor == 8
    with pytest.raises(UnknownNameError, match=r"did you mean .*'resunet2d'"):
        build_preset("resunet", 1, 2)


def test_specs_survive_json_and_refuse_nonsense():
    spec = SegmenterSpec(
        "preset:resunet2d",
        2,
        1,
        ("background", "cell"),
        (64, 64),
        link=Link.SIGMOID,
        arguments={"widths": [4, 8]},
        preprocessing=Preprocessing("fixed", None, -100.0, 300.0, 20.0, 40.0, (1.0, 0.0, 2.5)),
    )
    assert SegmenterSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    for change in ({"colour": 1}, {"link": "logit"}, {"preprocessing": {"mean": 0, "gain": 2}}):
        with pytest.raises(ConfigError):
            SegmenterSpec.from_json({**spec.to_json(), **change})
    with pytest.raises(ConfigError, match="std=0"):
        Preprocessing("fixed", std=0)
