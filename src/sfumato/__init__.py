"""Where, and how badly, a medical image segmentation may be wrong.

Importing this package computes nothing and imports nothing heavy: each name below is fetched when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .decision import DecisionRule
    from .errors import SfumatoError
    from .imaging import read_image
    from .interfaces import Method, MethodSpec
    from .pipeline.case import predict_image
    from .registry import get_method, list_methods
    from .segmenters.presets import build_preset
    from .segmenters.spec import Preprocessing, SegmenterSpec
    from .segmenters.wrap import wrap
    from .storage import load_method, load_segmenter, save_method
    from .types import Batch, Kind, Link, Prediction, Segmentation, Uncertainty

__version__ = "0.1.0"

_HOMES = {
    "Batch": "types",
    "DecisionRule": "decision",
    "Kind": "types",
    "Link": "types",
    "Method": "interfaces",
    "MethodSpec": "interfaces",
    "Prediction": "types",
    "Preprocessing": "segmenters.spec",
    "Segmentation": "types",
    "SegmenterSpec": "segmenters.spec",
    "SfumatoError": "errors",
    "Uncertainty": "types",
    "build_preset": "segmenters.presets",
    "get_method": "registry",
    "list_methods": "registry",
    "load_method": "storage",
    "load_segmenter": "storage",
    "predict_image": "pipeline.case",
    "read_image": "imaging",
    "save_method": "storage",
    "wrap": "segmenters.wrap",
}

__all__ = [
    "Batch",
    "DecisionRule",
    "Kind",
    "Link",
    "Method",
    "MethodSpec",
    "Prediction",
    "Preprocessing",
    "Segmentation",
    "SegmenterSpec",
    "SfumatoError",
    "Uncertainty",
    "build_preset",
    "get_method",
    "list_methods",
    "load_method",
    "load_segmenter",
    "predict_image",
    "read_image",
    "save_method",
    "wrap",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sfumato' has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
