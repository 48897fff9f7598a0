"""What must be known about a trained network to run it on a file: its inputs, its outputs, its window."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..errors import ConfigError
from ..types import Link

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601), wherever a colour picture is seen in one channel."""


@dataclass(frozen=True)
class Preprocessing:
    """How file intensities become network input.

    Args:
        normalisation: `zscore` per image (all channels together for pictures, each for volumes), `fixed` with
            the stored `mean` and `std`, `unit` divides an integer type by its maximum, `none`.
        percentiles: clip to these percentiles of the image before `zscore`; None does not clip.
        low: clip to at least this before `fixed`.
        high: clip to at most this before `fixed`.
        mean: subtracted by `fixed`.
        std: divided by in `fixed`.
        spacing: resample volumes to these millimetres (RAS+ axis order), 0 for an axis to keep; None keeps
            the file's grid.
    """

    normalisation: Literal["zscore", "fixed", "unit", "none"] = "zscore"
    percentiles: tuple[float, float] | None = (0.5, 99.5)
    low: float | None = None
    high: float | None = None
    mean: float = 0.0
    std: float = 1.0
    spacing: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.normalisation not in ("zscore", "fixed", "unit", "none"):
            raise ConfigError(f"normalisation={self.normalisation!r}, expected zscore, fixed, unit or none.")
        if not self.std > 0:
            raise ConfigError(f"std={self.std}, expected a positive number.")


@dataclass(frozen=True)
class SegmenterSpec:
    """A segmenter's passport, saved beside its weights as `segmenter.json`.

    Args:
        source: how to build the network again: `preset:NAME`, `python:package.module:function`,
            `python:path/to/file.py:function`, `monai:ClassName`, `nnunet:package.module.ClassName`,
            `text_guided` or `torchscript`; empty when only a program that has the network at hand can load it.
        arguments: keyword arguments that build the network again.
        spatial_dims: 2 or 3; a 2-D network walks through a volume slice by slice.
        channels: image channels.
        classes: class names, background first.
        label_values: value of each class in label files.
        link: softmax over classes, or one foreground logit through a sigmoid.
        window: largest grid the network sees at once; smaller images are padded to a multiple of `divisor`.
        divisor: every side of a window must be a multiple of this; one number, or one per axis.
        taps: names of tapped features, see `sfumato.segmenters.taps`.
        preprocessing: how file intensities become network input.
    """

    source: str
    spatial_dims: int
    channels: int
    classes: tuple[str, ...]
    window: tuple[int, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    label_values: tuple[int, ...] = ()
    link: Link = Link.SOFTMAX
    divisor: int | tuple[int, ...] = 1
    taps: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        if not self.label_values:
            object.__setattr__(self, "label_values", tuple(range(len(self.classes))))
        problems = [
            (self.spatial_dims in (2, 3), f"spatial_dims={self.spatial_dims}, expected 2 or 3"),
            (self.channels >= 1, f"channels={self.channels}, expected at least 1"),
            (len(self.classes) >= 2, f"classes={self.classes}, expected background and at least one more"),
            (len(self.label_values) == len(self.classes), "label_values and classes differ in length"),
            (self.link is Link.SOFTMAX or len(self.classes) == 2, "a sigmoid link has exactly two classes"),
            (
                len(self.window) == self.spatial_dims,
                f"window={self.window}, expected {self.spatial_dims} sides",
            ),
            (
                len(self.divisors) == self.spatial_dims and min(self.divisors) >= 1,
                f"divisor={self.divisor}, expected a positive number, or {self.spatial_dims} of them",
            ),
            (
                all(n > 0 and d > 0 and n % d == 0 for n, d in zip(self.window, self.divisors, strict=False)),
                f"window={self.window}, expected sides that {self.divisor} divides",
            ),
        ]
        for fine, message in problems:
            if not fine:
                raise ConfigError(f"{message}.")

    @property
    def divisors(self) -> tuple[int, ...]:
        """The divisor of every axis."""
        return (self.divisor,) * self.spatial_dims if isinstance(self.divisor, int) else tuple(self.divisor)

    @property
    def logit_channels(self) -> int:
        """Channels the network returns: one for a sigmoid link, else one per class."""
        return 1 if self.link is Link.SIGMOID else len(self.classes)

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return dataclasses.asdict(self) | {"link": self.link.value, "arguments": dict(self.arguments)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SegmenterSpec:
        """The inverse of `to_json`; lists become tuples again.

        Raises:
            ConfigError: an unknown or missing field.
        """
        try:
            fields = {k: _tuples(v) for k, v in content.items() if k != "arguments"}
            prep = {k: _tuples(v) for k, v in dict(fields.pop("preprocessing", {})).items()}
            fields["link"] = Link(fields.get("link", Link.SOFTMAX))
            return cls(
                **fields, arguments=dict(content.get("arguments", {})), preprocessing=Preprocessing(**prep)
            )
        except (TypeError, ValueError) as error:
            raise ConfigError(f"not a segmenter description this version reads ({error}).") from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
