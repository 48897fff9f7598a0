"""Backbones: presets of ours and MONAI's, and a wrapper that freezes any network and taps its features."""

from .frozen import FrozenSegmenter
from .presets import PRESETS, TAP_PRESETS, build_preset
from .spec import Preprocessing, SegmenterSpec
from .wrap import wrap

__all__ = [
    "PRESETS",
    "TAP_PRESETS",
    "FrozenSegmenter",
    "Preprocessing",
    "SegmenterSpec",
    "build_preset",
    "wrap",
]
