"""Checkpoints as safetensors: weights, their average and the optimiser's state, for an exact resume."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import StorageError


def save_checkpoint(
    path: Path,
    weights: Mapping[str, Mapping[str, Tensor]],
    optimiser: torch.optim.Optimizer,
    state: Mapping[str, Any],
) -> None:
    """Write named groups of weights, the optimiser and a JSON-able state, under a temporary name first.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    tensors = {
        f"{group}.{k}": v.detach().cpu().contiguous() for group, t in weights.items() for k, v in t.items()
    }
    scalars: dict[str, dict[str, Any]] = {}
    saved = optimiser.state_dict()
    for index, entry in saved["state"].items():
        for key, value in entry.items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{index}.{key}"] = value.detach().cpu().contiguous()
            else:
                scalars.setdefault(str(index), {})[key] = value
    meta = {"state": json.dumps(dict(state)), "scalars": json.dumps(scalars)}
    part = path.with_name(path.name + ".part")
    try:
        save_file({k: v.clone() for k, v in tensors.items()}, part, metadata=meta)
        os.replace(part, path)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"{path}: cannot be written ({error}); the checkpoint before it is whole."
        ) from error


def load_checkpoint(
    path: Path, modules: Mapping[str, nn.Module], optimiser: torch.optim.Optimizer
) -> dict[str, Any]:
    """Restore what `save_checkpoint` wrote, in place, and return the state.

    Raises:
        StorageError: unreadable, or written for another network.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        for group, module in modules.items():
            prefix = f"{group}."
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        saved = optimiser.state_dict()
        saved["state"] = _optimiser_state(tensors, json.loads(meta["scalars"]))
        optimiser.load_state_dict(saved)
        return json.loads(meta["state"])
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise StorageError(
            f"{path}: not a checkpoint of this run ({error}); delete it to start anew."
        ) from error


def _optimiser_state(tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    for index, entry in scalars.items():
        state.setdefault(int(index), {}).update(entry)
    return state
