"""Files of networks that others publish: a folder, or a repository on the hub, read without running code of theirs."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor

from ...errors import MissingExtraError, StorageError
from ...segmenters.state import read_state

WEIGHTS = "model.safetensors", "pytorch_model.bin"
"""In order of preference; the second is a pickle."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def find_file(source: str, name: str) -> Path | None:
    """A file of a folder or a repository, None where it has no such file; a repository's file may be downloaded.

    Args:
        source: a folder, or OWNER/NAME on the hub.
        name: of the file.

    Raises:
        StorageError: no such folder or repository, or one that is out of reach.
        MissingExtraError: a repository, and huggingface_hub is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     find_file(folder, "config.json") is None
        True
    """
    if Path(source).is_dir():
        place = Path(source) / name
        return place if place.is_file() else None
    if not HUB_NAME.fullmatch(source):
        raise StorageError(f"{source}: there is no such folder, nor is it OWNER/NAME of a repository.")
    try:
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingExtraError("huggingface_hub", "text", f"hf:{source}") from error
    try:
        return Path(huggingface_hub.hf_hub_download(source, name))
    except Exception as error:  # the hub's client raises errors of its own, of requests' and of the system's
        absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
        if absent:
            return None
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise StorageError(
            f"{source}: no such folder, and the repository's {name} cannot be had ({first}); download the repository "
            "and name its folder."
        ) from error


def require_file(source: str, *names: str) -> Path:
    """The first of these files that is there.

    Raises:
        StorageError: none is there; and as `find_file`.
    """
    for name in names:
        place = find_file(source, name)
        if place is not None:
            return place
    raise StorageError(f"{source}: expected a file {' or '.join(names)}, and there is none.")


def read_weights(source: str, allow_pickle: bool = False) -> tuple[dict[str, Tensor], Path]:
    """Named tensors of a folder or repository, and the file they were in.

    Args:
        source: a folder, or OWNER/NAME on the hub.
        allow_pickle: without safetensors, read `pytorch_model.bin`, with torch's restricted unpickler.

    Raises:
        StorageError: no weights, damaged ones, or a pickle that is not allowed; and as `find_file`.
    """
    place = require_file(source, *WEIGHTS)
    return read_state(place, allow_pickle), place
