"""The authors' head files, which a user brings along: nine pickled state dicts, read without running code.

They hold for SAM 2 of one generation only, and for the token convention of the authors' code (paper, sections 6 and
7); both are named by whoever loads them and kept with the heads. Their repository gives no licence, so they are not
distributed with this package.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import ConfigError, StorageError
from .config import SamGapsConfig
from .estimator import SamGaps
from .heads import HeadBank

GENERATIONS = ("sam2.0", "sam2.1")
ALIASES = {"iou_unsupervised": ("iou_unsupervised", "unsupervised_iou")}
"""Training and weights of the authors name this head differently."""
SUFFIXES = (".pth", ".pt")


def read_published(folder: Path, generation: Literal["sam2.0", "sam2.1"], checkpoint: str) -> SamGaps:
    """Heads from the authors' files, to be kept by `sfumato.save_method` like any others.

    Their expected IoU is not calibrated: it is what the heads say, its interval is [0, 1].

    Args:
        folder: with one file per head, named `NAME.pth` or `NAME.pt`.
        generation: of the SAM 2 that the files are for; nothing in them says it.
        checkpoint: of the network that the heads will be used on, such as `facebook/sam2.1-hiera-tiny`.

    Raises:
        ConfigError: an unknown generation, or a checkpoint of another one.
        StorageError: a file that is missing, cannot be read without running code, or is no such head.
    """
    _check_generation(generation, checkpoint)
    config = SamGapsConfig.published()
    bank = HeadBank(config)
    for position, name in enumerate(bank.names):
        state = _read_head(_file_of(Path(folder), name))
        with torch.no_grad():
            for layer in range(len(bank.weights)):
                bank.weights[layer][position] = state[f"layers.{layer}.weight"].T
                bank.biases[layer][position, 0] = state[f"layers.{layer}.bias"]
    return SamGaps(config, bank=bank)


def _check_generation(generation: str, checkpoint: str) -> None:
    if generation not in GENERATIONS:
        raise ConfigError(f"generation={generation!r}, expected one of {', '.join(GENERATIONS)}.")
    name = checkpoint.lower()
    found = "sam2.1" if "sam2.1" in name else "sam2.0" if "sam2-" in name or "sam2.0" in name else None
    if found != generation:
        said = f"of {found}" if found else "of no generation of SAM 2 that its name tells"
        raise ConfigError(
            f"The network {checkpoint} is {said}, expected {generation}, as the heads are; tokens of another network "
            "mean something else to them."
        )


def _file_of(folder: Path, name: str) -> Path:
    wanted = [f"{alias}{suffix}" for alias in ALIASES.get(name, (name,)) for suffix in SUFFIXES]
    for path in (folder / file for file in wanted):
        if path.is_file():
            return path
    raise StorageError(f"{folder}: the head {name} is missing, expected one of {', '.join(wanted)}.")


def _read_head(path: Path) -> dict[str, Tensor]:
    try:
        # Some of the files are tagged with a CUDA device.
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise StorageError(
            f"{path}: not a state dict that can be read without running code ({error})."
        ) from error
    shapes = expected_shapes()
    found = {k: tuple(v.shape) for k, v in state.items()} if _is_state(state) else type(state).__name__
    if found != shapes:
        raise StorageError(f"{path}: holds {found}, expected the published head {shapes}.")
    return {name: value.float() for name, value in state.items()}


def _is_state(state: Any) -> bool:
    return isinstance(state, dict) and all(isinstance(value, Tensor) for value in state.values())


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of one published head.

    Example:
        >>> expected_shapes()["layers.2.weight"]
        (1, 512)
    """
    found: dict[str, tuple[int, ...]] = {}
    for layer, out in enumerate((512, 512, 1)):
        found |= {f"layers.{layer}.weight": (out, 512), f"layers.{layer}.bias": (out,)}
    return found
