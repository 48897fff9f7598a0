"""Settings of test-time augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ConfigError


@dataclass(frozen=True)
class TestTimeAugmentationConfig:
    """Which changes of the image are tried; the identity is always among the passes.

    Args:
        flips: grid axes that are mirrored, one pass each; None takes every axis, and none for a network that reads
            sentences, as "at the left" would be false.
        rotations: degrees, in the plane of the first two grid axes (the axial plane of a RAS+ volume).
        gains: factors on the deviation from the image's mean.
        shifts: added, in standard deviations of the image.
        gammas: exponents on the image's range, which stays.
        tolerance: an augmentation that costs more Dice than this on the fitting cases is dropped.
    """

    __test__ = False  # its name begins like a test's

    flips: tuple[int, ...] | None = None
    rotations: tuple[float, ...] = (-10.0, 10.0)
    gains: tuple[float, ...] = (0.9, 1.1)
    shifts: tuple[float, ...] = (-0.1, 0.1)
    gammas: tuple[float, ...] = (0.8, 1.25)
    tolerance: float = 0.02

    def __post_init__(self) -> None:
        for name in ("flips", "rotations", "gains", "shifts", "gammas"):
            value = getattr(self, name)
            if value is not None:  # JSON gives lists
                object.__setattr__(self, name, tuple(value))
        for name in ("gains", "gammas"):
            if not all(v > 0 for v in getattr(self, name)):
                raise ConfigError(f"{name}={getattr(self, name)}, expected positive numbers.")
        if not all(abs(v) <= 45 for v in self.rotations):
            raise ConfigError(f"rotations={self.rotations}, expected degrees from -45 to 45.")
        if not self.tolerance >= 0:
            raise ConfigError(f"tolerance={self.tolerance}, expected 0 or more.")
