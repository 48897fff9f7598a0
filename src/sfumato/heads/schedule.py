"""How long and how fast a head is trained: one rule for all heads, so that they can be compared."""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

from ..interfaces import FitContext
from ..training.config import TrainerConfig


@runtime_checkable
class Schedule(Protocol):
    """The settings of a head that say how it is trained, see `PerturbationHeadConfig`."""

    @property
    def epochs(self) -> int: ...  # noqa: D102
    @property
    def steps(self) -> int: ...  # noqa: D102
    @property
    def learning_rate(self) -> float: ...  # noqa: D102
    @property
    def final_learning_rate(self) -> float: ...  # noqa: D102
    @property
    def weight_decay(self) -> float: ...  # noqa: D102
    @property
    def clip(self) -> float: ...  # noqa: D102
    @property
    def average(self) -> float: ...  # noqa: D102
    @property
    def precision(self) -> Literal["float32", "bfloat16", "auto"]: ...  # noqa: D102


def trainer_settings(
    config: Schedule, steps_per_epoch: int, context: FitContext
) -> tuple[TrainerConfig, int]:
    """The training loop's settings, and the steps of one of its epochs.

    With S = `config.steps` > 0, training lasts about S steps, in whole epochs, and at most `config.epochs`; an epoch is
    cut to S steps where it would be longer.
    """
    steps = min(steps_per_epoch, config.steps or steps_per_epoch)
    epochs = min(config.epochs, round(config.steps / steps)) if config.steps else config.epochs
    trainer = TrainerConfig(
        epochs=max(1, epochs),
        learning_rate=config.learning_rate,
        final_learning_rate=config.final_learning_rate,
        weight_decay=config.weight_decay,
        warmup=0,
        clip=config.clip,
        average=config.average,
        precision=config.precision,
        seed=context.seed,
        device=context.device,
    )
    return trainer, steps
