"""ConvNeXt-Tiny (Liu et al., A ConvNet for the 2020s, CVPR 2022, arXiv 2201.03545, section 2 and appendix A).

Features alone: no classifier, and no normalisation on top of the last stage, which serves pooled features only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import StorageError

DEPTHS = 3, 3, 9, 3
WIDTHS = 96, 192, 384, 768
EPSILON = 1e-6
"""Of the normalisations, and what each block's contribution is scaled by at the start."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of every place of (batch, channels, rows, columns)."""

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A filter per channel, then two linear layers per place, scaled and added to the input."""

    def __init__(self, width: int):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, EPSILON)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), EPSILON))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, width, rows, columns) to the same."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.narrow(F.gelu(self.widen(y)))
        return x + y.permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """Features of strides 4, 8, 16 and 32, for images of any size.

    The image is filled up with zeros, to the right and below, to sides that are multiples of 32, and the features are
    cut back: a feature of stride s has ceil(side / s) rows or columns.

    Args:
        channels: of the image.

    Attributes:
        widths: of the features, fine to coarse.

    Example:
        >>> network = ConvNext(channels=1).eval()
        >>> [tuple(x.shape) for x in network(torch.zeros(1, 1, 64, 50))]
        [(1, 96, 16, 13), (1, 192, 8, 7), (1, 384, 4, 4), (1, 768, 2, 2)]
    """

    widths = WIDTHS

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem, self.stem_norm = (
            nn.Conv2d(channels, WIDTHS[0], 4, stride=4),
            ChannelNorm(WIDTHS[0], EPSILON),
        )
        self.reductions, self.stages = nn.ModuleList([nn.Identity()]), nn.ModuleList()
        for finer, width in pairwise(WIDTHS):
            halved = ChannelNorm(finer, EPSILON), nn.Conv2d(finer, width, 2, stride=2)
            self.reductions.append(nn.Sequential(*halved))
        for width, depth in zip(WIDTHS, DEPTHS, strict=True):
            self.stages.append(nn.Sequential(*(Block(width) for _ in range(depth))))
        self.apply(_initialise)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch stage_width rows columns"]]:
        """Fine to coarse."""
        height, width = image.shape[2:]
        x = self.stem_norm(self.stem(F.pad(image, (0, -width % 32, 0, -height % 32))))
        found = []
        for level, (reduction, stage) in enumerate(zip(self.reductions, self.stages, strict=True)):
            x = stage(reduction(x))
            stride = 4 * 2**level
            found.append(x[..., : -(-height // stride), : -(-width // stride)])
        return found


def _initialise(part: nn.Module) -> None:
    if isinstance(part, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(part.weight, std=0.02)
        assert part.bias is not None
        nn.init.zeros_(part.bias)


UNUSED = re.compile(r"(classifier|layernorm)\.")
"""On top of the pooled features."""
PLACES = (
    (re.compile(r"embeddings\.patch_embeddings\."), "stem."),
    (re.compile(r"embeddings\.layernorm\."), "stem_norm."),
    (re.compile(r"encoder\.stages\.(\d)\.downsampling_layer\.(\d)\."), r"reductions.\1.\2."),
    (re.compile(r"encoder\.stages\.(\d)\.layers\.(\d)\."), r"stages.\1.\2."),
)
PARTS = {"dwconv": "depthwise", "layernorm": "norm", "pwconv1": "widen", "pwconv2": "narrow"}
PARTS |= {"layer_scale_parameter": "scale"}


def published_names(state: Mapping[str, Tensor], place: Path) -> dict[str, Tensor]:
    """Tensors under the names of `ConvNext`: `encoder.stages.1.layers.0.pwconv1.bias` is `stages.1.0.widen.bias`.

    Args:
        state: content of a file of weights, as the transformers library names them; what is on top is left out.
        place: of that file, for messages.

    Raises:
        StorageError: a tensor that ConvNeXt does not have.
    """
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix("convnext.")
        if UNUSED.match(name):
            continue
        found = next(((p, ours) for p, ours in PLACES if p.match(name)), None)
        if found is None:
            raise StorageError(f"{place}: the unknown tensor {name}, expected those of a ConvNeXt.")
        ours = found[0].sub(found[1], name)
        renamed[".".join(PARTS.get(part, part) for part in ours.split("."))] = value.float()
    return renamed
