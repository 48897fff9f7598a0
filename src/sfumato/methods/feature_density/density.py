"""The estimator: distances of a voxel's features to the features of the classes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import InputError, UnknownNameError
from ...heads.error_table import ErrorTable
from ...heads.fusion import resize
from ...heads.tapped import tapped_features
from ...types import Batch, Kind, Segmentation, Uncertainty
from .config import FeatureDensityConfig
from .distance import ClassGaussians


class FeatureDensity(nn.Module):
    """Squared Mahalanobis distances on tapped features, summed over taps.

    Args:
        config: see `FeatureDensityConfig`.
        widths: channels by tap, those that are used.
        classes: background included.
    """

    def __init__(self, config: FeatureDensityConfig, widths: Mapping[str, int], classes: int):
        super().__init__()
        self.config = config
        self.taps = tuple(widths)
        self.dimensions = sum(widths.values())
        tied = config.covariance == "tied"
        self.gaussians = nn.ModuleList(ClassGaussians(classes, width, tied) for width in widths.values())
        self.error_table = ErrorTable()

    @torch.no_grad()
    def respond(
        self, batch: Batch, segmentation: Segmentation
    ) -> dict[str, Float[Tensor, "batch maps *grid"]]:
        """Per class the squared distance over the number of channels, summed over taps; linear resizing.

        Raises:
            TapError: a tap is missing or has no grid.
        """
        grid = tuple(segmentation.logits.shape[2:])
        features = tapped_features(segmentation, self.taps, torch.float32)
        parts = [resize(g(f), grid) for g, f in zip(self.gaussians, features, strict=True)]
        return {"distance": torch.stack(parts).sum(dim=0) / self.dimensions}

    @torch.no_grad()
    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """EPISTEMIC = RANKING = ln(1 + d), d the distance to the class that `config.score` means; ERROR from a table.

        The logarithm changes no order, and keeps distances far outside the data within half precision.

        Raises:
            InputError: the response is not there.
        """
        if "distance" not in segmentation.features:
            raise InputError(
                "The segmentation carries no distance, expected the response of respond(); call it first."
            )
        distance = segmentation.features["distance"]
        if self.config.score == "nearest":
            chosen = distance.amin(dim=1)
        else:
            chosen = distance.gather(1, segmentation.labels().unsqueeze(1))[:, 0]
        doubt = torch.log1p(chosen.clamp_min(0.0))
        return Uncertainty({Kind.EPISTEMIC: doubt, Kind.RANKING: doubt, Kind.ERROR: self.error_table(doubt)})


def chosen_taps(config: FeatureDensityConfig, features: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The taps that the settings mean.

    Args:
        config: see `FeatureDensityConfig`.
        features: by tap.

    Raises:
        UnknownNameError: the segmenter has no tap of that name.
        InputError: it taps nothing.
    """
    if not features:
        raise InputError(
            "feature_density reads tapped features, the segmenter taps none; wrap it with taps='auto' or a list."
        )
    if config.taps == "all":
        return tuple(features)
    if config.taps == "finest":
        return (max(features, key=lambda tap: features[tap].shape[2:].numel()),)
    for tap in config.taps:
        if tap not in features:
            raise UnknownNameError("tap", tap, features)
    return tuple(config.taps)
