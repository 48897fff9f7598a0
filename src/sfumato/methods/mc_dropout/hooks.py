"""Temporary hooks that switch dropout on in a network that stays frozen and in evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...segmenters.frozen import FrozenSegmenter
from ...segmenters.taps import ALWAYS, Tap
from .config import McDropoutConfig
from .masks import drop, drop_as, layer_rate

Change = Callable[[Tensor], Tensor]


def own_layers(module: nn.Module) -> list[nn.Module]:
    """The network's dropout layers whose rate is above 0."""
    if isinstance(module, torch.jit.ScriptModule):  # hooks do not run there
        return []
    return [layer for layer in module.modules() if layer_rate(layer) > 0]


def tapped_places(segmenter: FrozenSegmenter) -> list[Tap]:
    """The taps that lie inside the network, where a hook can reach them."""
    return [Tap.parse(tap) for tap in segmenter.spec.taps if tap not in ALWAYS]


def choose_places(config: McDropoutConfig, segmenter: FrozenSegmenter) -> list[nn.Module] | list[Tap]:
    """What is dropped: the network's own layers, or features at its taps.

    Raises:
        ConfigError: there is nothing of the kind that `where` asks for.
    """
    layers = [] if config.where == "taps" else own_layers(segmenter.module)
    if layers:
        return layers
    if config.where == "own":
        raise ConfigError(
            "where='own', but the network has no dropout layer with a rate above 0; use where='taps' or 'auto'."
        )
    taps = tapped_places(segmenter)
    if not taps:
        raise ConfigError(
            f"The network has no dropout layer, and its taps {list(segmenter.spec.taps)} lie outside of it, expected "
            "one inside; name layers by taps=[...]."
        )
    return taps


@contextmanager
def dropping(
    module: nn.Module,
    places: Sequence[nn.Module] | Sequence[Tap],
    rate: float,
    generator: torch.Generator,
    seed: int,
) -> Iterator[None]:
    """Dropout is on inside the `with`; the hooks are gone afterwards, whatever happens.

    Args:
        module: the network.
        places: dropout layers, or taps at which channels are dropped.
        rate: of the channels at taps.
        generator: on the CPU; draws the masks.
        seed: the generator starts from it at every forward pass, so that a pass that is run again is the same.
    """
    handles = [module.register_forward_pre_hook(lambda *_: _restart(generator, seed))]
    try:
        for place in places:
            if isinstance(place, Tap):
                handles.append(_at_tap(module, place, rate, generator))
            else:
                handles.append(place.register_forward_hook(_switched_on(generator)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _switched_on(generator: torch.Generator) -> Callable[[nn.Module, Any, Any], Tensor]:
    return lambda layer, _, output: drop_as(layer, output, generator)


def _restart(generator: torch.Generator, seed: int) -> None:
    generator.manual_seed(seed)


def _at_tap(module: nn.Module, tap: Tap, rate: float, generator: torch.Generator) -> Any:
    def change(value: Tensor) -> Tensor:
        return drop(value, rate, value.shape[:2], generator)

    target = dict(module.named_modules(remove_duplicate=False))[tap.module]
    if not tap.before:
        return target.register_forward_hook(lambda _, args, output: changed(output, tap.keys, change))
    return target.register_forward_pre_hook(
        lambda _, args, kwargs: _changed_arguments(args, kwargs, tap.keys, change), with_kwargs=True
    )


def _changed_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], keys: Sequence[str], change: Change
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call's arguments with one tensor changed; a first key is a position or a name, as in taps."""
    given = changed({str(i): value for i, value in enumerate(args)} | dict(kwargs), keys, change)
    positions = [str(i) for i in range(len(args))]
    return tuple(given[p] for p in positions), {k: v for k, v in given.items() if k not in positions}


def changed(value: Any, keys: Sequence[str], change: Change) -> Any:
    """A copy of nested tuples, lists and dictionaries in which the tensor at `keys` is changed.

    Where the keys end above a tensor it is the first one there, as for taps.

    Example:
        >>> changed({"a": [torch.ones(1), 2]}, ("a", "0"), lambda t: 3 * t)
        {'a': [tensor([3.]), 2]}
    """
    if isinstance(value, Tensor):
        return change(value)
    entries: dict[Any, Any] = dict(value) if isinstance(value, Mapping) else dict(enumerate(value))
    if keys:
        key = keys[0] if keys[0] in entries else int(keys[0]) % len(entries)
        entries[key] = changed(entries[key], keys[1:], change)
    else:
        key = next(k for k, v in entries.items() if _holds_tensor(v))
        entries[key] = changed(entries[key], (), change)
    if isinstance(value, Mapping):
        return entries
    parts = list(entries.values())
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    return isinstance(value, Tensor) or (isinstance(value, tuple | list) and any(map(_holds_tensor, value)))
