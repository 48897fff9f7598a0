"""What is compared: the whole network, and networks without one of its parts each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.training import TextTraining
from sfumato.runs.text.train import TextTrainConfig
from sfumato.training.config import TrainerConfig

LEVEL = "p6"
NO_TEXT = "p0"
"""The level of the prompts that is empty."""
SEEDS = (0, 1, 2)
SIDE, EPOCHS = 96, 8
IMAGE_DROPOUT = 0.3
"""Chosen on three of the training colonoscopies; with it more was read."""


@dataclass(frozen=True)
class Arm:
    """One network.

    Args:
        title: for the table.
        settings: of the network that differ from the defaults.
        training: of the training, likewise.
        level: of the sentences, in training and test alike.
    """

    title: str
    settings: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    level: str = LEVEL


ARMS = {
    "full": Arm("all parts"),
    # An image that nothing is said about cannot be hidden.
    "no_text": Arm("no sentences", training={"image_dropout": 0.0}, level=NO_TEXT),
    "no_modab": Arm("no fusion blocks", {"fusion": "none"}, {"image_dropout": 0.0}),
    "linear": Arm("linear mixer for SSMix", {"mixer": "linear"}),
    "addition": Arm("text is added, not attended to", {"fusion": "addition"}),
    "dice": Arm("Dice loss alone", {"spectral_weight": 0.0, "uncertainty_weight": 0.0}),
    "bce": Arm("cross-entropy alone", training={"loss": "cross_entropy"}),
    "brier": Arm("Brier score for the entropy", {"uncertainty": "brier"}),
    "no_image_dropout": Arm("no hidden images", training={"image_dropout": 0.0}),
}


def config_of(arm: Arm, seed: int, epochs: int, side: int) -> TextTrainConfig:
    """How an arm is trained; all alike but for what the arm says. The last epoch counts, none is chosen."""
    trainer = TrainerConfig(epochs=epochs, learning_rate=1e-3, final_learning_rate=1e-6, clip=1.0, seed=seed)
    training: dict[str, Any] = {"image_dropout": IMAGE_DROPOUT} | arm.training
    return TextTrainConfig(
        TextGuidedConfig(**arm.settings),
        TextTraining(side, batch_size=8, augment=2.0, image_rate=0.1, trainer=trainer, **training),
        arm.level,
        ("polyp",),
        validation=0.0,
        mirror=True,
    )
