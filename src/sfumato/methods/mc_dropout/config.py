"""Settings of Monte Carlo dropout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import ConfigError, UnknownNameError

WHERE = ("auto", "own", "taps")


@dataclass(frozen=True)
class McDropoutConfig:
    """How many passes, and what is dropped.

    Args:
        passes: with dropout on, T.
        where: `own` takes the network's dropout layers, `taps` inserts channel dropout at the tapped features,
            `auto` is `own` where the network has such layers, else `taps`.
        rate: share of channels that is dropped at each tap, in (0, 1); the network's own layers keep their rates.
        seed: of the masks.
    """

    passes: int = 10
    where: Literal["auto", "own", "taps"] = "auto"
    rate: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.where not in WHERE:
            raise UnknownNameError("where", str(self.where), WHERE)
        if self.passes < 1:
            raise ConfigError(f"passes={self.passes}, expected at least 1.")
        if not 0 < self.rate < 1:
            raise ConfigError(f"rate={self.rate}, expected a number between 0 and 1.")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed}, expected 0 or more.")
