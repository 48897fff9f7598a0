"""For all tests: a segmenter that is confidently wrong where its features say so, cases for it, transformers."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.segmenters import FrozenSegmenter, wrap
from sfumato.types import Batch, Link

torch.set_num_threads(1)

# A trainer of nnU-Net's inherits from nnU-Net's class, so it cannot even be imported without it.
collect_ignore = [] if find_spec("nnunetv2") else ["src/sfumato/training/nnunet_trainers/nnUNetTrainerDUO.py"]

LEVELS = (0.0, 1.0, 2.0)
"""Intensity of each class."""
SHARPNESS = 6.0


class Gullible(nn.Module):
    """Classifies by intensity; its features also carry a second channel, which marks where intensity lies."""

    def __init__(self, dims: int, classes: int, sigmoid: bool = False):
        super().__init__()
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.pool = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[dims](2)
        self.features = convolution(2, 4, 1)
        self.classifier = convolution(4, 1 if sigmoid else classes, 1)
        with torch.no_grad():
            mix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [-1.0, 0.0]])
            self.features.weight.copy_(mix.reshape(self.features.weight.shape))
            self.features.bias.zero_()
            levels = torch.tensor(LEVELS[:classes])
            weight = torch.zeros(classes, 4)
            weight[:, 0], bias = 2 * SHARPNESS * levels, -SHARPNESS * levels.square()
            if sigmoid:
                weight, bias = weight[1:], bias[1:]
            self.classifier.weight.copy_(weight.reshape(self.classifier.weight.shape))
            self.classifier.bias.copy_(bias)

    def forward(self, image: Tensor) -> Tensor:
        """Logits; the pooled features are only there to be tapped."""
        x = self.features(image)
        self.pool(x)
        return self.classifier(x)


def phantom(seed: int, dims: int = 2, classes: int = 3, side: int = 24, rows: int = 1) -> Batch:
    """Blobs of `classes` intensities; in random boxes it is the next class's, and channel 2 says so."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, 1, *[side] * dims)
    smooth = F.avg_pool2d if dims == 2 else F.avg_pool3d
    field = smooth(torch.randn(shape, generator=generator), 5, stride=1, padding=2)
    field = (field / field.std())[:, 0]
    label = sum((field > t).long() for t in ((0.4, 1.2)[: classes - 1]))
    wrong = torch.zeros_like(field, dtype=torch.bool)
    for row in range(rows):
        for _ in range(2):
            start = torch.randint(0, side - 6, (dims,), generator=generator).tolist()
            wrong[(row, *(slice(s, s + 6) for s in start))] = True
    shown = torch.where(wrong, (label + 1) % classes, label).float()
    marks = wrong.float() + 0.2 * torch.randn(wrong.shape, generator=generator)
    intensity = shown + 0.2 * torch.randn(wrong.shape, generator=generator)
    return Batch(torch.stack([intensity, marks], dim=1), label=label)


@pytest.fixture(scope="session")
def cases() -> Callable[..., list[Batch]]:
    """`cases(count, seed, **arguments of phantom)`."""
    return lambda count, seed, **arguments: [phantom(1000 * seed + i, **arguments) for i in range(count)]


@pytest.fixture(scope="session")
def segmenter() -> Callable[..., FrozenSegmenter]:
    """`segmenter(dims=2, classes=3, sigmoid=False)`: the gullible one, with a coarse and a fine tap."""

    def make(dims: int = 2, classes: int = 3, sigmoid: bool = False) -> FrozenSegmenter:
        return wrap(
            Gullible(dims, classes, sigmoid),
            classes,
            spatial_dims=dims,
            channels=2,
            taps=("pool", "classifier:input"),
            link=Link.SIGMOID if sigmoid else Link.SOFTMAX,
            window=(24,) * dims,
            divisor=2,
        )

    return make


@pytest.fixture(scope="module")
def transformers():
    """The library; a torchvision that does not fit this torch is hidden from it, as no network here needs it."""
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed")
    with pytest.MonkeyPatch.context() as patch:
        try:
            importlib.import_module("torchvision")
        except (ImportError, RuntimeError):  # the latter where its operators were built for another torch
            patch.setitem(sys.modules, "torchvision", None)
        library = importlib.import_module("transformers")
        library.utils.import_utils.is_torchvision_available.cache_clear()  # it may have looked before
        yield library
