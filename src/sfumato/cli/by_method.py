"""Commands that take other options where their first word is a method with prompts."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from typer.core import TyperCommand


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
