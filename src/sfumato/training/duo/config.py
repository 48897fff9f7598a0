"""What DUO does, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from ...errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class DuoConfig:
    """How classes are weighed and how labels are corrected.

    `DuoConfig(weights="none")` corrects labels only, `DuoConfig(denoise=False)` weighs classes only, and with both the
    loss is the plain class mean of Dice and cross-entropy.

    Args:
        alpha: how strongly the scale S in [0, 1] of a class lowers its weight 1 / (1 + alpha S).
        beta: share of the Dice loss; the rest is binary cross-entropy.
        rho: largest correction of a label, in (0, 1].
        warmup_start: share of the training before which no label is corrected.
        warmup_end: share of the training from which `rho` is reached; linear between.
        noise_penalty: factor of the mean squared noise map, which keeps corrections rare; it grows with the budget.
        average: decay per step of a moving average of S over the batches of each class; 0 takes S of the batch itself.
        normalise: divide the weights of a batch by their mean, so that the learning rate means what it did.
        weights: `scale` as above; `none` is 1; `random` shuffles the weights of a batch over its samples and classes,
            a control with the same distribution.
        denoise: correct labels.
        mode: `table` learns one coefficient per training case and class; `pooled` reads it off the image's features,
            for loops that do not know which case a row comes from.

    Example:
        >>> DuoConfig(alpha=1.0, denoise=False).weights
        'scale'
    """

    alpha: float = 0.5
    beta: float = 0.5
    rho: float = 0.3
    warmup_start: float = 0.1
    warmup_end: float = 0.3
    noise_penalty: float = 1e-3
    average: float = 0.0
    normalise: bool = False
    weights: Literal["scale", "none", "random"] = "scale"
    denoise: bool = True
    mode: Literal["table", "pooled"] = "table"

    def __post_init__(self) -> None:
        for name, allowed in (("weights", ("scale", "none", "random")), ("mode", ("table", "pooled"))):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name}={getattr(self, name)!r}, expected one of {', '.join(allowed)}.")
        for name in ("normalise", "denoise"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r}, expected true or false.")
        limits = {"alpha": None, "noise_penalty": None, "beta": 1.0, "rho": 1.0, "warmup_end": 1.0}
        for name, high in limits.items():
            value = getattr(self, name)
            if not _is_number(value) or value < 0 or (high is not None and value > high):
                raise ConfigError(
                    f"{name}={value!r}, expected a number from 0{f' to {high:g}' if high else ''}."
                )
        if not _is_number(self.average) or not 0 <= self.average < 1:
            raise ConfigError(f"average={self.average!r}, expected a number from 0 to below 1.")
        if not _is_number(self.warmup_start) or not 0 <= self.warmup_start <= self.warmup_end:
            raise ConfigError(
                f"warmup_start={self.warmup_start!r}, expected a number from 0 to warmup_end={self.warmup_end}."
            )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> DuoConfig:
        """Of names and values, such as a command line gives.

        Raises:
            UnknownNameError: a name that DUO does not have.
            ConfigError: a value that is not allowed.

        Example:
            >>> DuoConfig.from_settings({"alpha": 1, "denoise": False}).alpha
            1
        """
        known = [field.name for field in fields(cls)]
        for name in settings:
            if name not in known:
                raise UnknownNameError("DUO setting", name, known)
        return cls(**settings)

    def noise_channels(self, classes: int) -> int:
        """Channels of the noise head for `classes` foreground classes; `pooled` adds one coefficient map for each."""
        return 0 if not self.denoise else classes * (2 if self.mode == "pooled" else 1)

    def noise_budget(self, progress: float) -> float:
        """The largest correction allowed now; `progress` is the share of the training that is done, in [0, 1].

        Example:
            >>> [round(DuoConfig().noise_budget(p), 3) for p in (0.05, 0.1, 0.2, 0.3, 1.0)]
            [0.0, 0.0, 0.15, 0.3, 0.3]
        """
        if progress >= self.warmup_end:
            return self.rho
        span = self.warmup_end - self.warmup_start
        return self.rho * max(0.0, progress - self.warmup_start) / span if span else 0.0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
