"""Methods by name. The folder's name in `sfumato/methods` is the method's name; there is no other list."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

from .errors import ConfigError, UnknownNameError
from .interfaces import MethodSpec

METHODS_FOLDER = Path(__file__).parent / "methods"


def list_methods() -> tuple[str, ...]:
    """Names of all methods, sorted, without importing any of them.

    Example:
        >>> "perturbation_head" in list_methods()
        True
    """
    return tuple(
        sorted(
            p.name
            for p in METHODS_FOLDER.iterdir()
            if (p / "__init__.py").exists() and not p.name.startswith("_")
        )
    )


@cache
def get_method(name: str) -> MethodSpec:
    """The card of one method.

    Raises:
        UnknownNameError: no such method; says the nearest names.
        ConfigError: the folder does not export `METHOD` under its own name.
    """
    if name not in list_methods():
        raise UnknownNameError("method", name, list_methods())
    spec = getattr(import_module(f"sfumato.methods.{name}"), "METHOD", None)
    if not isinstance(spec, MethodSpec) or spec.name != name:
        raise ConfigError(
            f"methods/{name}/__init__.py must export METHOD, a MethodSpec whose name is {name!r}."
        )
    return spec
