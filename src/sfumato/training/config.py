"""How to optimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError


@dataclass(frozen=True)
class TrainerConfig:
    """How to optimise.

    Args:
        epochs: passes over the data at most.
        learning_rate: peak.
        optimiser: `adamw` or `sgd` (Nesterov, momentum 0.99).
        weight_decay: of the optimiser.
        schedule: `cosine` from the peak to `final_learning_rate`, `poly` with exponent 0.9 to zero.
        final_learning_rate: where `cosine` ends.
        warmup: steps over which the rate grows linearly to the peak.
        clip: largest global gradient norm.
        average: decay per step of the moving average of weights that is validated and kept; 0 turns it off.
        precision: `auto` takes bfloat16 where the processor multiplies it natively, else float32.
        patience: epochs without a better validation score before stopping; 0 never stops early.
        stop_after: epochs after which to stop, while the schedule is laid out for all `epochs`; 0 never does.
        seed: of everything random.
        device: `auto` takes a GPU if there is one.
    """

    epochs: int = 40
    learning_rate: float = 2e-3
    optimiser: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 1e-2
    schedule: Literal["cosine", "poly"] = "cosine"
    final_learning_rate: float = 0.0
    warmup: int = 50
    clip: float = 12.0
    average: float = 0.99
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    patience: int = 0
    stop_after: int = 0
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        allowed = {
            "optimiser": ("adamw", "sgd"),
            "schedule": ("cosine", "poly"),
            "precision": ("auto", "float32", "bfloat16"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ConfigError(f"{name}={getattr(self, name)!r}, expected one of {', '.join(values)}.")
        for name in ("epochs", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a positive number.")
        for name in ("seed", "warmup", "patience", "stop_after", "weight_decay", "final_learning_rate"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)}, expected 0 or more.")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average={self.average}, expected a number from 0 to below 1.")
