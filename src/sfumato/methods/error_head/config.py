"""Settings of the error head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import ConfigError, UnknownNameError

FUSIONS = ("light", "reference")
PRECISIONS = ("float32", "bfloat16", "auto")


@dataclass(frozen=True)
class ErrorHeadConfig:
    """How the head is built and fitted; sizes and schedule are the perturbation head's.

    Args:
        width: channels of the fused feature.
        hidden: width of the two hidden layers.
        fusion: `light` (no wide convolutions) or `reference` (SegWithU's).
        epochs: passes over the fitting cases at most.
        steps: optimiser steps at most, to the next whole pass; 0 sets no limit.
        folds: parts of the fitting cases; heads trained on the others choose, near the foreground, after how many
            of the steps to stop. 0 takes all steps.
        batch_size: cases (slices for 2-D networks) per step.
        learning_rate: peak, reached at the start.
        final_learning_rate: where the cosine ends.
        weight_decay: of AdamW.
        clip: largest global gradient norm.
        average: decay of the moving average of the weights; 0 turns it off.
        precision: of the convolutions while fitting.
        patch: random crops of this size are fitted on; empty takes the segmenter's window.
        cache_gib: features beyond this many GiB are recomputed instead of kept.
    """

    width: int = 32
    hidden: int = 32
    fusion: Literal["light", "reference"] = "light"
    epochs: int = 30
    steps: int = 450
    folds: int = 3
    batch_size: int = 1
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 12.0
    average: float = 0.98
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    patch: tuple[int, ...] = ()
    cache_gib: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", tuple(self.patch))  # JSON gives lists
        for name, known in (("fusion", FUSIONS), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        for name in ("width", "hidden", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected at least 1.")
        if self.folds < 0:
            raise ConfigError(f"folds={self.folds}, expected 0 or more.")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a positive number.")
