"""TorchScript files: the network and its weights in one; only image and logits can be tapped."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from ..errors import StorageError

SOURCE = "torchscript"
NETWORK_FILE = "network.ts"
"""Name of the copy inside a segmenter's folder."""


def looks_like_torchscript(path: Path) -> bool:
    """By its ending; `.pt` is also used for checkpoints, which give an error when they are loaded."""
    return path.suffix in (".ts", ".pt", ".torchscript")


def load_torchscript(path: Path, allow_pickle: bool) -> torch.jit.ScriptModule:
    """Read a file that `torch.jit.save` wrote.

    Raises:
        StorageError: not allowed, missing, or not TorchScript (a checkpoint, say).
    """
    if not path.is_file():
        raise StorageError(f"{path}: there is no such file.")
    if not allow_pickle:
        raise StorageError(
            f"{path}: TorchScript is a program, which runs when it segments; pass --allow-pickle if "
            "you trust its source."
        )
    try:
        with warnings.catch_warnings():
            # torch recommends torch.export for new files; those that people have are TorchScript.
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(path, map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        raise StorageError(
            f"{path}: not a TorchScript file; a checkpoint needs the code of its network: pass "
            "package.module:function as the segmenter and this file as its weights."
        ) from error


def save_torchscript(module: torch.jit.ScriptModule, folder: Path) -> None:
    """Put the program beside the segmenter's description."""
    part = folder / (NETWORK_FILE + ".part")
    module.save(str(part))
    part.replace(folder / NETWORK_FILE)
