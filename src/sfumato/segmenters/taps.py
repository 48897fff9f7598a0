"""Features of a frozen network, asked for by name and captured by forward hooks that never outlive the call.

A tap is `name` (the output of the submodule of that dotted name), `name:input` (its first input), or one of
the two that every network has: `image` and `logits`. Where a submodule takes or returns several tensors, the
first is meant; another is chosen by position or key: `encoder:2`, `backbone:out`, `fuse:input:1`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TapError

ALWAYS = ("image", "logits")
INPUT = ":input"


@dataclass(frozen=True)
class Tap:
    """A tap's name, taken apart.

    Example:
        >>> Tap.parse("decoder.fuse:input:1")
        Tap(text='decoder.fuse:input:1', module='decoder.fuse', before=True, keys=('1',))
    """

    text: str
    module: str
    before: bool
    keys: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Tap:
        """Split `module[:input][:key]...`."""
        module, *rest = text.split(":")
        before = rest[:1] == ["input"]
        return cls(text, module, before, tuple(rest[1:] if before else rest))


def check_taps(module: nn.Module, taps: Sequence[str]) -> None:
    """Refuse names that the network does not have, and repetitions.

    Raises:
        TapError: lists the nearest names.
    """
    known = [name for name, _ in module.named_modules(remove_duplicate=False) if name]
    for tap in taps:
        if tap in ALWAYS:
            continue
        if isinstance(module, torch.jit.ScriptModule):
            raise TapError(
                f"{tap!r} cannot be tapped: hooks do not run in TorchScript; tap image and logits."
            )
        name = Tap.parse(tap).module
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *ALWAYS], n=5, cutoff=0.0)
            raise TapError(f"There is no submodule {name!r} to tap; the nearest are {', '.join(near)}.")
    if len(set(taps)) != len(taps):
        raise TapError(f"taps {list(taps)} name a tap twice, expected each once.")


@dataclass
class Captured:
    """The tapped tensors of one forward call, and whether somebody wrote to them afterwards."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)

    def keep(self, tap: Tap, value: object, copy: bool) -> None:
        """Remember one tensor; called by the hooks."""
        tensor = pick_tensor(value, tap)
        self.tensors[tap.text] = tensor = tensor.clone() if copy else tensor
        self.versions[tap.text] = tensor._version

    def overwritten(self) -> set[str]:
        """Taps whose tensor a later layer changed in place: their content is no longer what was tapped."""
        return {name for name, tensor in self.tensors.items() if tensor._version != self.versions[name]}


@contextmanager
def captured(module: nn.Module, taps: Sequence[str], copies: Collection[str] = ()) -> Iterator[Captured]:
    """Collect the tapped tensors of the forward call inside the `with`; the hooks are gone afterwards.

    A module called several times keeps its last tensor. The call must not run in inference mode, where
    tensors do not count their changes.

    Args:
        module: the network.
        taps: their names.
        copies: taps to copy at once, because later layers write over them.

    Raises:
        TapError: a tap that did not fire, or that carries no tensor.
    """
    seen = Captured()
    wanted = [Tap.parse(tap) for tap in taps if tap not in ALWAYS]
    modules = dict(module.named_modules(remove_duplicate=False))
    handles = []
    try:
        for tap in wanted:
            handles.append(_hook(modules[tap.module], tap, seen, tap.text in copies))
        yield seen
        for tap in wanted:
            if tap.text not in seen.tensors:
                raise TapError(
                    f"The tap {tap.text!r} did not fire: the network never called it; choose another."
                )
    finally:
        for handle in handles:
            handle.remove()


def _hook(target: nn.Module, tap: Tap, seen: Captured, copy: bool) -> Any:
    if tap.before:
        return target.register_forward_pre_hook(
            lambda _, args, kwargs: seen.keep(tap, given_arguments(args, kwargs), copy), with_kwargs=True
        )
    return target.register_forward_hook(lambda _, args, output: seen.keep(tap, output, copy))


def given_arguments(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call by position, as text, and by name; positional ones first."""
    return {str(i): value for i, value in enumerate(args)} | dict(kwargs)


def pick_tensor(value: object, tap: Tap) -> Tensor:
    """The tensor that a tap means among what a module takes or returns.

    Raises:
        TapError: no tensor there.
    """
    for key in tap.keys:
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, Sequence) and key.lstrip("-").isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise TapError(
                f"The tap {tap.text!r} has nothing at {key!r}; the module gives {_describe(value)}."
            )
    tensor = first_tensor(value)
    if tensor is None:
        raise TapError(f"The tap {tap.text!r} carries {_describe(value)}, expected a tensor.")
    return tensor


def first_tensor(value: object) -> Tensor | None:
    """The first tensor in nested tuples, lists and dictionaries, or None."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((t for t in map(first_tensor, value) if t is not None), None)
    return None


def _describe(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary with {', '.join(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
