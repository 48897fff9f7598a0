"""Frozen feature extractors by name: an image's slices in, feature maps out."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import ConfigError, UnknownNameError
from .efficientnet_lite0 import EfficientNetLite0
from .extractor import ExtractorCard, FeatureExtractor

__all__ = ["EXTRACTORS", "ExtractorCard", "FeatureExtractor", "load_extractor"]

EXTRACTORS = ("efficientnet_lite0",)
"""Names that `load_extractor` knows; those that end in a colon go on with a folder or a source."""


def load_extractor(
    name: str = "efficientnet_lite0", device: str = "auto", allow_pickle: bool = False, **options: Any
) -> FeatureExtractor:
    """A frozen network as a source of features.

    Args:
        name: `efficientnet_lite0`.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`.
        allow_pickle: let segmenters of other programs be read from pickled checkpoints.
        options: of the extractor's class, such as `side`.

    Raises:
        UnknownNameError: no such extractor; lists the nearest names.
        ConfigError: an option that this extractor does not have.
        MissingExtraError: it needs a package that is not installed.
        StorageError: weights that are missing, or are not the pinned ones.

    Example:
        >>> load_extractor("efficientnet_lite0", side=64).features(torch.zeros(2, 1, 40, 40))["stride8"].shape
        torch.Size([2, 40, 8, 8])
    """
    if name not in EXTRACTORS:
        raise UnknownNameError("feature extractor", name, EXTRACTORS)
    where = (
        "cuda" if device == "auto" and torch.cuda.is_available() else "cpu" if device == "auto" else device
    )
    try:
        return EfficientNetLite0(where, **options)
    except TypeError as error:
        raise ConfigError(f"{name}: {error}.") from error
