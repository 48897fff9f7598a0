"""Every error that sfumato raises on purpose.

    SfumatoError
    |-- InputError          a file or array that cannot be used as it is
    |   |-- GeometryError   an affine that is sheared, singular or contradicts itself
    |   `-- DatasetError    a data set whose cases do not fit together
    |-- ConfigError         an option, a name or a value that is not allowed
    |   |-- UnknownNameError  a name that is not known; says the nearest known ones
    |   `-- TapError        a feature tap that is not there or cannot be used
    |-- StorageError        a saved run, segmenter or method that cannot be read or written
    `-- MissingExtraError   an optional dependency that is not installed

A message is one sentence that says which case, what came, what was expected and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SfumatoError(Exception):
    """Root of the tree; catch it to catch everything below."""


class InputError(SfumatoError):
    """A file or array cannot be used as it is."""


class GeometryError(InputError):
    """An affine is sheared, singular or contradicts another header field."""


class DatasetError(InputError):
    """The cases of a data set do not fit together."""


class ConfigError(SfumatoError):
    """An option, name or value is not allowed."""


class UnknownNameError(ConfigError):
    """A name is not known.

    Example:
        >>> str(UnknownNameError("method", "sofmax", ["softmax", "error_head"]))
        "There is no method called 'sofmax'; did you mean 'softmax'? Known: error_head, softmax."
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]):
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(repr(c) for c in close)}?" if close else "."
        listed = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
        super().__init__(f"There is no {kind} called {name!r}{hint} Known: {listed or 'none'}.")


class TapError(ConfigError):
    """A feature tap is not there, did not fire or has the wrong shape."""


class StorageError(SfumatoError):
    """A saved segmenter, method or run cannot be read or written."""


class MissingExtraError(SfumatoError):
    """An optional dependency is not installed.

    Example:
        >>> str(MissingExtraError("monai", "train", "training a backbone"))
        "training a backbone needs 'monai': pip install 'sfumato[train]'"
    """

    def __init__(self, package: str, extra: str, purpose: str):
        super().__init__(f"{purpose} needs {package!r}: pip install 'sfumato[{extra}]'")
