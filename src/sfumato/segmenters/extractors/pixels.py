"""The slice itself at three scales: no network, no weights; what a foundation model has to be better than."""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ...errors import UnknownNameError
from ..inputs import check_side, fitted_sides, in_chunks, resized, three_channels
from .extractor import ExtractorCard

BLOCKS = (1, 2, 4)
"""Sides of the blocks that are averaged, in pixels of the scaled slice."""
SLICES_AT_ONCE = 64


class Pixels:
    """Three feature maps of one channel per slice, `block1`, `block2` and `block4`: means over blocks of grey values.

    Args:
        side: the longer side a slice is scaled to, a multiple of 4.
        main: the map that class-wise maps are made of.

    Raises:
        ConfigError: a side that 4 does not divide, or an unknown map.

    Example:
        >>> import torch
        >>> {name: tuple(f.shape) for name, f in Pixels(side=8).features(torch.ones(2, 3, 16, 8)).items()}
        {'block1': (2, 1, 8, 4), 'block2': (2, 1, 4, 2), 'block4': (2, 1, 2, 1)}
    """

    def __init__(self, side: int = 64, main: str = "block1"):
        check_side(side, BLOCKS[-1])
        known = [f"block{block}" for block in BLOCKS]
        if main not in known:
            raise UnknownNameError("feature map", main, known)
        self.side = side
        self.card = ExtractorCard("pixels", "none", "none needed", "dense", main, f"side={side}")

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices 1 rows columns"]]:
        """See `FeatureExtractor.features`; rows and columns are the scaled sides divided by the block."""
        image = three_channels(slices)
        sides = fitted_sides(image.shape[2:], self.side, BLOCKS[-1])

        def run(part: Tensor) -> dict[str, Tensor]:
            grey = resized(part, sides).mean(dim=1, keepdim=True)
            return {f"block{block}": F.avg_pool2d(grey, block) for block in BLOCKS}

        return in_chunks(image, SLICES_AT_ONCE, run)
