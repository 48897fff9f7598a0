"""Weights of third parties: safetensors, or pickled checkpoints read without running anything from them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import StorageError

PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".tar")
"""Endings of files that torch.save writes."""
NESTS = ("state_dict", "network_weights", "model_state_dict", "model", "network", "net")
"""Where training programs keep the weights inside a checkpoint."""
PREFIXES = ("module.", "_orig_mod.")
"""Put before every name by DataParallel and torch.compile."""
NUMPY_TYPES = (np.dtype, *(type(np.dtype(kind)) for kind in "fdilqbB?"))
"""Numbers in a checkpoint's log are often numpy's; these types only describe data."""


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        StorageError: missing, damaged, or something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file.") from error
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: not readable as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path}: holds {type(content).__name__}, expected a JSON object.")
    return content


def require_trust(path: Path, allow_pickle: bool) -> None:
    """Refuse a pickled file unless the caller trusts it.

    Raises:
        StorageError: says how to go on.
    """
    if not allow_pickle:
        raise StorageError(
            f"{path}: expected a .safetensors file; a pickled checkpoint can run code when it is "
            "loaded, convert it, or pass --allow-pickle if you trust its source."
        )


def read_checkpoint(path: Path, allow_pickle: bool) -> dict[str, Any]:
    """A pickled checkpoint, read with torch's restricted unpickler: even a trusted file gets to run nothing.

    Raises:
        StorageError: not allowed, missing, damaged, or holding more than tensors and plain types.
    """
    require_trust(path, allow_pickle)
    restore = np.float64(0).__reduce__()[0]  # numpy 1 and 2 name this function differently
    names: list[Any] = [(restore, f"{core}.multiarray.scalar") for core in ("numpy.core", "numpy._core")]
    try:
        with torch.serialization.safe_globals([*NUMPY_TYPES, *names]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file.") from error
    except pickle.UnpicklingError as error:
        raise StorageError(
            f"{path}: holds more than tensors and plain types, so it is not loaded; save its "
            "state_dict alone, best as .safetensors."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise StorageError(f"{path}: not a readable checkpoint ({str(error).split('. ')[0]}).") from error
    if not isinstance(content, dict):
        raise StorageError(
            f"{path}: holds {type(content).__name__}, expected a dictionary of tensors (a state_dict)."
        )
    return content


def read_state(path: Path, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Named tensors from a .safetensors file or, when allowed, a pickled checkpoint.

    Raises:
        StorageError: not allowed, missing, damaged, or no weights inside.
    """
    path = Path(path)
    if path.suffix in PICKLES:
        return tensors_inside(read_checkpoint(path, allow_pickle), path)
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file.") from error
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path}: not a readable safetensors file ({error}).") from error


def tensors_inside(content: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The state_dict in a checkpoint, wherever its training program put it; prefixes of wrappers removed.

    Raises:
        StorageError: there is none.
    """
    for nest in NESTS:
        if isinstance(content.get(nest), Mapping):
            content = content[nest]
            break
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if not state or len(state) < len(content):
        raise StorageError(
            f"{path}: no weights found; its entries are {', '.join(map(str, list(content)[:8])) or 'none'}."
        )
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load weights; every tensor must fit.

    Raises:
        StorageError: names the first tensors that are missing, left over or of another shape.
    """
    own = module.state_dict()
    missing, extra = [n for n in own if n not in state], [n for n in state if n not in own]
    other = [n for n in own if n in state and own[n].shape != state[n].shape]
    problems = [
        f"{what} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in (
            ("without", missing),
            ("with the unknown", extra),
            ("with other shapes of", other),
        )
        if names
    ]
    if problems:
        raise StorageError(
            f"{path}: the weights do not fit the network: {'; '.join(problems)}; check its arguments."
        )
    module.load_state_dict(dict(state))
