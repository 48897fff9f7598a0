"""Frozen feature extractors by name: an image's slices in, feature maps out."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch

from ...errors import ConfigError, UnknownNameError
from .efficientnet_lite0 import EfficientNetLite0
from .extractor import ExtractorCard, FeatureExtractor
from .huggingface import HuggingFaceExtractor
from .minisam import MiniSamExtractor
from .network import ModuleExtractor, SegmenterExtractor, read_segmenter, segmenter_maps
from .pixels import Pixels
from .prompted import prompted_maps

__all__ = [
    "EXTRACTORS",
    "ExtractorCard",
    "FeatureExtractor",
    "ModuleExtractor",
    "SegmenterExtractor",
    "load_extractor",
    "prompted_maps",
    "segmenter_maps",
]

EXTRACTORS = (
    "efficientnet_lite0",
    "minisam",
    "minisam:FOLDER",
    "pixels",
    "hf:REPOSITORY_OR_FOLDER",
    "segmenter:SOURCE",
)
"""What `load_extractor` takes, as its messages list it."""


def load_extractor(
    name: str = "efficientnet_lite0", device: str = "auto", allow_pickle: bool = False, **options: Any
) -> FeatureExtractor:
    """A frozen network as a source of features.

    Args:
        name: `efficientnet_lite0`; `pixels`, which is no network but the slice itself; `minisam` or
            `minisam:FOLDER`; `hf:` and a repository or folder; `segmenter:` and a saved segmenter's folder or
            whatever `sfumato.segmenters.load.load_network` reads.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`. miniSAM runs on the processor whatever it says, as
            its runtime is a package of its own.
        allow_pickle: let segmenters be read from pickled checkpoints, and run the function that one names.
        options: of the extractor's class, such as `side` or `threads`; for `segmenter:` also those of
            `load_network`.

    Raises:
        UnknownNameError: no such extractor; lists the nearest names.
        ConfigError: an option that this extractor does not have.
        MissingExtraError: it needs a package that is not installed.
        StorageError: weights that are missing, or are not the pinned ones.

    Example:
        >>> sorted(load_extractor("efficientnet_lite0", side=64).features(torch.zeros(1, 1, 40, 40)))
        ['stride16', 'stride2', 'stride32', 'stride4', 'stride8']
    """
    kind, _, source = name.partition(":")
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    where = automatic if device == "auto" else device
    if name == "efficientnet_lite0":
        return _build(EfficientNetLite0, name, options, device=where)
    if name == "pixels":
        return _build(Pixels, name, options)
    if kind == "minisam":
        return _build(MiniSamExtractor, name, options, folder=source or None)
    if kind == "hf" and source:
        return _build(HuggingFaceExtractor, name, options, source=source, device=where)
    if kind == "segmenter" and source:
        main = options.pop("main", "logits")
        segmenter = read_segmenter(source, allow_pickle, **options).to(where)
        return SegmenterExtractor(segmenter, name, main)
    raise UnknownNameError("feature extractor", name, EXTRACTORS)


def _build(
    build: Callable[..., FeatureExtractor], name: str, options: dict[str, Any], **given: Any
) -> FeatureExtractor:
    known = [option for option in signature(build).parameters if option not in given]
    unknown = [option for option in options if option not in known]
    if unknown:
        raise ConfigError(
            f"{name} has no option {', '.join(map(repr, unknown))}, expected {', '.join(known) or 'none'}."
        )
    return build(**given, **options)
