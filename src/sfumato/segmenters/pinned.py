"""Weights that others publish, known by their content: a file is opened only if its SHA-256 is the pinned one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

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


def weights_sha256(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of all parameters and buffers, for networks without one file.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> weights_sha256(one) == weights_sha256(one), weights_sha256(one) == weights_sha256(other)
        (True, False)
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
