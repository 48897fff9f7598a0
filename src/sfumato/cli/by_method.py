"""Commands that take other options where a word or an option of theirs names a method with prompts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from typer.core import TyperCommand

from ..errors import ConfigError, UnknownNameError


def command_by_method(modules: Mapping[str, str]) -> type[TyperCommand]:
    """A command that hands over to another one by its first word.

    Args:
        modules: first word -> module of this package whose `alone()` gives the command that reads what follows.
    """

    class CommandByMethod(TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
            """See click; the context that comes back runs the command that it belongs to."""
            if not args or args[0] not in modules:
                return super().make_context(info_name, args, *more, **extra)
            command = import_module(modules[args[0]], __package__).alone()
            return command.make_context(f"{info_name} {args[0]}", args[1:], *more, **extra)

    return CommandByMethod


def command_by_option(option: str, modules: Mapping[str, str]) -> type[TyperCommand]:
    """A command that hands over to another one by the value of an option, which it has not itself.

    Args:
        option: such as `--method`.
        modules: value -> module of this package whose `alone()` gives the command that reads the other options.
    """

    class CommandByOption(TyperCommand):
        def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> Any:
            """See click; the context that comes back runs the command that it belongs to."""
            value, rest = _without_option(option, args)
            if value is None:
                return super().make_context(info_name, args, *more, **extra)
            if value not in modules:
                raise UnknownNameError(f"value of {option}", value, modules)
            command = import_module(modules[value], __package__).alone()
            return command.make_context(f"{info_name} {option} {value}", rest, *more, **extra)

    return CommandByOption


def _without_option(option: str, args: list[str]) -> tuple[str | None, list[str]]:
    """The value of an option, given as `--option value` or `--option=value`, and the other words."""
    for i, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name == option:
            if not equals and i + 1 == len(args):
                raise ConfigError(f"{option} without a value, expected one behind it.")
            taken = i + 1 if equals else i + 2
            return value if equals else args[i + 1], args[:i] + args[taken:]
    return None, args
