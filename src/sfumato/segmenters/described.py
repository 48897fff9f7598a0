"""What a source says about its network, and what the caller adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from ..errors import ConfigError, UnknownNameError
from ..types import Link
from .spec import Preprocessing


@dataclass(frozen=True)
class Description:
    """Parts of a `SegmenterSpec`; None where nobody says. See there for the meaning."""

    classes: tuple[str, ...] | int | None = None
    channels: int | None = None
    spatial_dims: int | None = None
    link: Link | None = None
    window: tuple[int, ...] | None = None
    divisor: int | tuple[int, ...] | None = None
    label_values: tuple[int, ...] | None = None
    preprocessing: Preprocessing | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Description:
        """From keyword arguments; empty lists and names mean that nobody says.

        Raises:
            UnknownNameError: another name.
            ConfigError: an unknown link.
        """
        known = [f.name for f in fields(cls)]
        for name in values:
            if name not in known:
                raise UnknownNameError("description of a segmenter", name, known)
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v
            for k, v in values.items()
            if v not in (None, (), [], "")
        }
        if isinstance(plain.get("classes"), str):
            raise ConfigError(f"classes={plain['classes']!r}, expected a list of names, or their number.")
        if "link" in plain:
            try:
                plain["link"] = Link(plain["link"])
            except ValueError as error:
                raise ConfigError(f"link={plain['link']!r}, expected softmax or sigmoid.") from error
        return cls(**plain)

    def completed(self, asked: Description, source: str) -> Description:
        """What the source says, completed by what the caller says.

        Names, windows and preprocessing may be replaced; the network's own numbers may not.

        Raises:
            ConfigError: the caller contradicts the source.
        """
        for name, own, wanted in (
            ("channels", self.channels, asked.channels),
            ("spatial_dims", self.spatial_dims, asked.spatial_dims),
            ("link", self.link, asked.link),
            ("classes", _count(self.classes), _count(asked.classes)),
        ):
            if own is not None and wanted is not None and own != wanted:
                raise ConfigError(f"{name}={wanted} was given, but {source} says {own}; leave it out.")
        values = {f.name: getattr(asked, f.name) for f in fields(self)}
        if isinstance(asked.classes, int) and self.classes is not None:
            values["classes"] = None  # the number adds nothing to names
        return Description(**{k: getattr(self, k) if v is None else v for k, v in values.items()})


@dataclass(frozen=True)
class Found:
    """A network that an adapter built.

    Args:
        module: with its weights, unless they are separate (`python:`).
        source: see `SegmenterSpec`.
        arguments: see `SegmenterSpec`.
        description: what the source says about it.
    """

    module: nn.Module
    source: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    description: Description = field(default_factory=Description)


def _count(classes: tuple[str, ...] | int | None) -> int | None:
    return len(classes) if isinstance(classes, tuple) else classes
