"""What the pipeline hands on for one case: everything on the file's own grid, in compact types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..decision import Decision
from ..imaging import Image
from ..types import Kind


@dataclass(frozen=True)
class CaseResult:
    """A finished case.

    Args:
        image: as it was read.
        classes: class names, background first.
        segmentation: (*grid) class number per voxel, uint8 (uint16 beyond 256 classes).
        probability: (classes, *grid), calibrated; uint8 codes of 1/255, or float32.
        maps: (*grid) each: the ERROR map as uint8 codes of 1/255 or float32, the others float16 or float32.
        scores: case scores by kind.
        volumes: class name -> (ml counted from the segmentation, ml expected from the probability).
        decision: None when the method has no rule.
        warnings: sentences for people.
        seconds: computing time.
    """

    image: Image
    classes: tuple[str, ...]
    segmentation: np.ndarray
    probability: np.ndarray
    maps: Mapping[Kind, np.ndarray]
    scores: Mapping[Kind, float]
    volumes: Mapping[str, tuple[float, float]]
    decision: Decision | None = None
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0


def unit(values: np.ndarray) -> np.ndarray:
    """Probabilities as float32, whether they are stored as uint8 codes of 1/255 or as floats."""
    return values.astype(np.float32) / 255.0 if values.dtype == np.uint8 else values.astype(np.float32)
