"""Settings of temperature scaling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ...errors import UnknownNameError

KINDS = ("global", "vector")


@dataclass(frozen=True)
class TemperatureScalingConfig:
    """Which recalibration.

    Args:
        kind: `global` divides all logits by one temperature, `vector` scales and shifts each class's logit.
    """

    kind: Literal["global", "vector"] = "global"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("kind", str(self.kind), KINDS)
