"""Any trained network as a frozen segmenter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from ..errors import ConfigError
from ..types import Link
from .frozen import FrozenSegmenter, auto_taps, named_taps
from .probe import find_divisor
from .spec import Preprocessing, SegmenterSpec

WINDOW_SIDE = {2: 512, 3: 96}
"""Side of a window when nobody names one, before it is rounded to the divisor."""
SHELLS = {"OptimizedModule": "_orig_mod", "DataParallel": "module", "DistributedDataParallel": "module"}
"""torch's own wrappers, and where they keep the network: hooks do not survive compilation and replication."""


def wrap(
    module: nn.Module | Callable[[Tensor], Tensor],
    classes: Sequence[str] | int,
    *,
    spatial_dims: Literal[2, 3],
    channels: int = 1,
    taps: str | Sequence[str] = "auto",
    link: Link | str = Link.SOFTMAX,
    window: Sequence[int] | None = None,
    divisor: int | Sequence[int] | None = None,
    label_values: Sequence[int] = (),
    preprocessing: Preprocessing | None = None,
    source: str = "",
    arguments: dict[str, Any] | None = None,
) -> FrozenSegmenter:
    """Make a frozen segmenter of any network.

    Args:
        module: maps (batch, channels, *grid) to logits (batch, classes, *grid); lists, dictionaries and
            stacked heads of deep supervision are understood.
        classes: class names, background first, or how many classes there are, background included.
        spatial_dims: 2 or 3.
        channels: image channels.
        taps: names of features (`sfumato.segmenters.taps`), `auto`, or a name in `TAP_PRESETS`.
        link: `softmax`, or `sigmoid` for one foreground logit.
        window: the largest grid it sees at once; 512 x 512 or 96 x 96 x 96, rounded to the divisor, by
            default.
        divisor: sides must be multiples of it, or of one number per axis. None asks the network: its integer
            attribute `divisor`, else the smallest power of two at which it runs.
        label_values: value of each class in label files; 0, 1, 2, ... by default.
        preprocessing: how file intensities become network input; z-score by default.
        source: where the network comes from (see `SegmenterSpec`), so that it can be saved.
        arguments: keyword arguments that build it again.

    Raises:
        TapError: a tap that is not there, did not fire or is no feature map; lists the nearest names.
        ConfigError: a network that fails on such images, or logits that do not fit `classes` and `link`.

    Example:
        >>> from sfumato.segmenters import build_preset, wrap
        >>> segmenter = wrap(build_preset("resunet2d", 1, 3, widths=(4, 8, 8)), 3, spatial_dims=2)
        >>> segmenter.spec.divisor, segmenter.spec.taps
        (4, ('encoder.2', 'decoder.0', 'classifier:input'))
    """
    network = _network(module)
    spec = SegmenterSpec(
        source=source,
        spatial_dims=spatial_dims,
        channels=channels,
        classes=_class_names(classes),
        window=tuple(window) if window else (WINDOW_SIDE.get(spatial_dims, 1),) * spatial_dims,
        arguments=arguments or {},
        label_values=tuple(label_values),
        link=_link(link),
        preprocessing=preprocessing or Preprocessing(),
    )
    if divisor is None:
        divisor = find_divisor(network, channels, spec.logit_channels, spec.window)
    sides, divisor = spec.window, divisor if isinstance(divisor, int) else tuple(divisor)
    if not window:
        divisors = (divisor,) * spatial_dims if isinstance(divisor, int) else divisor
        sides = tuple(n // max(d, 1) * d or d for n, d in zip(sides, divisors, strict=False))
    spec = replace(spec, divisor=divisor, window=sides)
    named = named_taps(taps)
    return FrozenSegmenter(network, replace(spec, taps=auto_taps(network, spec) if named is None else named))


def _network(module: nn.Module | Callable[[Tensor], Tensor]) -> nn.Module:
    if not isinstance(module, nn.Module):
        return _CallableModule(module)
    shell = SHELLS.get(type(module).__name__)
    return (getattr(module, shell) if shell else module).eval()


def _link(link: Link | str) -> Link:
    try:
        return Link(link)
    except ValueError as error:
        raise ConfigError(f"link={link!r}, expected softmax or sigmoid.") from error


def _class_names(classes: Sequence[str] | int) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise ConfigError(f"classes={classes!r}, expected a list of names, or their number.")
    if isinstance(classes, int):
        return ("background", *(f"class {i}" for i in range(1, classes)))
    return tuple(classes)


class _CallableModule(nn.Module):
    """A plain function as a module: it has no submodules to tap, so `auto` gives image and logits."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(image)


__all__ = ["FrozenSegmenter", "auto_taps", "wrap"]
