"""Settings of the heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import ConfigError, UnknownNameError

_CHOICES = {
    "features": ("pairs", "tokens", "shape", "all"),
    "convention": ("aligned", "published"),
    "choice": ("own", "best"),
    "standardise": ("none", "global", "rung"),
    "optimiser": ("adamw", "sgd"),
}


@dataclass(frozen=True)
class SamGapsConfig:
    """How heads are built and fitted; `published()` is the paper's form.

    Args:
        ladder: names of the networks, cheapest first; the segmenter is the first.
        token_width: of the networks' tokens.
        features: what heads see: `pairs` of IoU and mask token as in the paper, `tokens` (pairs, and which
            hypothesis, prompt and network), `shape` (own estimates and numbers about the masks instead of tokens)
            or `all`.
        convention: which mask token stands for hypothesis j: `aligned` takes m(j+1), which made it; `published`
            takes m(j), as the paper's code does.
        choice: gaps compare the networks' `own` picks, or the `best` hypotheses by the truth, as in the paper.
        gap_range: gaps beyond this saturate; 0.5 in the paper.
        standardise: features by the statistics of the fitting records, `global`, per `rung`, or `none`.
        hidden: widths of the hidden layers.
        shared: heads share their hidden layers.
        members: banks fitted side by side from different starts; their mean answers.
        dropout: of hidden units while fitting.
        input_dropout: of features while fitting.
        input_noise: standard deviation of noise on the standardised features while fitting.
        optimiser: `adamw` or `sgd`.
        epochs: passes over the fitting records at most.
        batch_size: hypotheses per step.
        learning_rate: peak.
        weight_decay: of the optimiser.
        average: decay of the moving average of the weights; 0 turns it off.
        patience: epochs without a better score on held-out groups before stopping; 0 never stops early.
        validation: share of the fitting groups that is held out to choose the epoch; 0 keeps the last one.
        balanced: every data set weighs the same, however many records it has.
        level: of the interval of IoU.
        threshold: `Assessment.above` is the chance that IoU exceeds this.
    """

    ladder: tuple[str, ...] = ("network",)
    token_width: int = 256
    features: Literal["pairs", "tokens", "shape", "all"] = "all"
    convention: Literal["aligned", "published"] = "aligned"
    choice: Literal["own", "best"] = "own"
    gap_range: float = 1.0
    standardise: Literal["none", "global", "rung"] = "global"
    hidden: tuple[int, ...] = (128, 64)
    shared: bool = True
    members: int = 4
    dropout: float = 0.1
    input_dropout: float = 0.1
    input_noise: float = 0.1
    optimiser: Literal["adamw", "sgd"] = "adamw"
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    average: float = 0.99
    patience: int = 6
    validation: float = 0.2
    balanced: bool = True
    level: float = 0.9
    threshold: float = 0.75

    def __post_init__(self) -> None:
        for name in ("ladder", "hidden"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        for name in ("token_width", "members", "epochs", "batch_size", "learning_rate", "gap_range"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a positive number.")
        for name in ("dropout", "input_dropout", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a number from 0 to below 1.")
        for name in ("level", "threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a number between 0 and 1.")
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigError(f"hidden={self.hidden}, expected at least one positive width.")
        if not self.ladder or len(set(self.ladder)) != len(self.ladder):
            raise ConfigError(f"ladder={self.ladder}, expected one name per network, each once.")
        if self.input_noise < 0:
            raise ConfigError(f"input_noise={self.input_noise}, expected 0 or more.")

    @classmethod
    def published(cls, **changes: Any) -> SamGapsConfig:
        """The paper's heads: two layers of 512 on [IoU token, mask token] of its code, each head for itself.

        Its search found another learning rate for every head; these are the values for SA-V.

        Example:
            >>> SamGapsConfig.published().hidden
            (512, 512)
        """
        paper: dict[str, Any] = {
            "ladder": ("tiny", "small", "base_plus", "large"),
            "features": "pairs",
            "convention": "published",
            "choice": "best",
            "gap_range": 0.5,
            "standardise": "none",
            "hidden": (512, 512),
            "shared": False,
            "members": 1,
            "dropout": 0.0,
            "input_dropout": 0.0,
            "input_noise": 0.0,
            "optimiser": "sgd",
            "epochs": 9,
            "batch_size": 193,
            "learning_rate": 0.0087130695692,
            "weight_decay": 1e-3,
            "average": 0.0,
            "patience": 0,
            "validation": 0.0,
            "balanced": False,
        }
        return cls(**(paper | changes))
