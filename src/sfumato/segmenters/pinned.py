"""Weights that others publish, known by their content: a file is opened only if its SHA-256 is the pinned one."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..errors import StorageError


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
        StorageError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file.") from error
    except OSError as error:
        raise StorageError(f"{path}: not readable ({error}).") from error


def require_sha256(path: Path, expected: str, remedy: str) -> None:
    """Refuse a file whose content is not the expected one.

    Args:
        path: of the file.
        expected: its SHA-256 in hexadecimal digits.
        remedy: ends the message: what to do about another file.

    Raises:
        StorageError: missing, unreadable, or another content.
    """
    found = sha256_of(path)
    if found != expected:
        raise StorageError(f"{path}: its sha256 is {found}, expected {expected}; {remedy}.")
