from __future__ import annotations

from dataclasses import dataclass

import pytest

from sfumato.heads.schedule import Schedule, trainer_settings
from sfumato.interfaces import FitContext


@dataclass(frozen=True)
class Settings:
    epochs: int = 30
    steps: int = 450
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 12.0
    average: float = 0.98
    precision: str = "float32"


@pytest.mark.parametrize(
    ("epochs", "steps", "per_epoch", "expected"),
    [
        (30, 450, 12, (30, 12)),  # the epochs end first
        (30, 450, 100, (4, 100)),  # about 450 steps in whole epochs
        (30, 450, 1000, (1, 450)),  # an epoch is cut
        (30, 0, 1000, (30, 1000)),  # no limit
        (30, 1, 10, (1, 1)),
    ],
)
def test_steps_and_epochs(epochs, steps, per_epoch, expected):
    config = Settings(epochs=epochs, steps=steps)
    assert isinstance(config, Schedule)
    trainer, found = trainer_settings(config, per_epoch, FitContext(seed=7, device="cpu"))
    assert (trainer.epochs, found) == expected
    assert (trainer.seed, trainer.device, trainer.warmup) == (7, "cpu", 0)
    for name in ("learning_rate", "final_learning_rate", "weight_decay", "clip", "average", "precision"):
        assert getattr(trainer, name) == getattr(config, name)
