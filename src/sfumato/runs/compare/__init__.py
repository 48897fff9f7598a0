"""Several methods on one frozen segmenter, judged side by side."""

from .run import CompareConfig, compare_methods

__all__ = ["CompareConfig", "compare_methods"]
