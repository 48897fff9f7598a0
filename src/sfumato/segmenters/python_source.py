"""Networks that a Python function builds: `package.module:function` or `path/to/file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from ..errors import ConfigError, SfumatoError

SCHEME = "python:"


def is_python_source(source: str) -> bool:
    """Whether a source looks like `something:function`.

    Example:
        >>> is_python_source("package.module:build"), is_python_source("runs/hippo")
        (True, False)
    """
    place, colon, function = source.removeprefix(SCHEME).rpartition(":")
    return bool(colon and function.isidentifier() and place)


def build_from_python(source: str, arguments: Mapping[str, Any]) -> nn.Module:
    """Call the function, with keyword arguments, and check that it returned a network.

    Args:
        source: with or without `python:` in front.
        arguments: plain types.

    Raises:
        ConfigError: no such module, file or function, a function that fails, or something else than a
            network.
    """
    place, _, name = source.removeprefix(SCHEME).rpartition(":")
    function = _function(place, name)
    try:
        network = function(**arguments)
    except SfumatoError:
        raise
    except Exception as error:  # whatever somebody else's function raises
        raise ConfigError(
            f"{source}({_shown(arguments)}) failed ({type(error).__name__}: {error}); check its arguments."
        ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{source} returned {type(network).__name__}, expected a torch.nn.Module.")
    return network


def absolute_source(source: str) -> str:
    """The source as a segmenter's folder keeps it: with its scheme, and files by their full path."""
    place, _, name = source.removeprefix(SCHEME).rpartition(":")
    return f"{SCHEME}{Path(place).resolve() if place.endswith('.py') else place}:{name}"


def _function(place: str, name: str) -> Callable[..., Any]:
    module = _module_from_file(Path(place)) if place.endswith(".py") else _module_by_name(place)
    function = getattr(module, name, None)
    if not callable(function):
        known = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
        raise ConfigError(
            f"{place} has no function {name!r}, expected one that returns the network; it has {known[:10]}."
        )
    return function


def _module_by_name(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        package = name.partition(".")[0]
        if error.name != package or here in sys.path or not _lies_here(package):
            raise _not_importable(name, error) from error
        sys.path.append(here)  # as `python -m` does; a console script looks beside itself instead
        return _module_by_name(name)
    except ImportError as error:
        raise _not_importable(name, error) from error


def _lies_here(package: str) -> bool:
    return Path(f"{package}.py").is_file() or Path(package).is_dir()


def _not_importable(name: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"The module {name!r} cannot be imported ({error}); install it, or name its file: path/to/file.py:function."
    )


def _module_from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file, expected Python code that builds the network.")
    name = f"sfumato_source_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody else's file raises
        del sys.modules[name]
        raise ConfigError(f"{path}: cannot be imported ({type(error).__name__}: {error}).") from error
    return module


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in arguments.items())
