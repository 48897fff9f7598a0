"""What cases are measured against: ranges, descriptors and columns of the cases an index was made of.

Stored beside the index. Scores taken against a stored reference do not depend on the cases scored beside them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ...errors import ConfigError, StorageError
from ...methods.sample_difficulty.range import ReferenceRange

FORMAT = 1
KEY = "reference"
"""The one entry of the file's metadata: several would be written in any order."""
COLUMN, BLOCK, COPY_BLOCK, OWNERS = "columns/", "blocks/", "copies/", "owners"

Blocks = tuple[np.ndarray, ...]
"""What neighbours are found by, (cases, numbers) each: descriptors of features, and numbers of image quality."""


@dataclass(frozen=True)
class Copies:
    """Damaged copies of some of the cases.

    Args:
        kinds: what was done to each copy.
        owners: (copies,) position of each copy's original among the cases.
        blocks: as those of the cases.
    """

    kinds: tuple[str, ...] = ()
    owners: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    blocks: Blocks = ()


@dataclass(frozen=True)
class Reference:
    """A frozen set of cases.

    Args:
        identity: extractor, maps, convention, aggregate and channel; scores of others cannot be compared.
        ranges: of the case scales by axis (`D`), and of the class scales by axis and class (`D/liver`).
        hashes: SHA-256 of each case's image: a case that is scored again is not its own neighbour.
        blocks: descriptors of the cases.
        columns: (cases,) float64 each: the scores that are combined.
        copies: damaged ones, from which damage is learnt.
        prototypes: plain ones that class maps were made with; empty without.
    """

    identity: Mapping[str, Any]
    ranges: Mapping[str, ReferenceRange]
    hashes: tuple[str, ...]
    blocks: Blocks
    columns: Mapping[str, np.ndarray]
    copies: Copies = field(default_factory=Copies)
    prototypes: Mapping[str, Any] = field(default_factory=dict)

    def check(self, identity: Mapping[str, Any]) -> None:
        """Refuse to measure against cases that were scored in another way.

        Raises:
            ConfigError: names what differs.
        """
        different = [k for k in identity if self.identity.get(k) != identity[k]]
        if different:
            said = "; ".join(
                f"{k} is {self.identity.get(k)!r} there and {identity[k]!r} here" for k in different
            )
            raise ConfigError(
                f"--reference: was made with other settings ({said}); use the same, or leave it out."
            )

    def write(self, path: Path) -> None:
        """Write one safetensors file under a temporary name, then rename."""
        tensors = {f"{BLOCK}{i}": block for i, block in enumerate(self.blocks)}
        tensors |= {f"{COPY_BLOCK}{i}": block for i, block in enumerate(self.copies.blocks)}
        tensors |= {COLUMN + name: values for name, values in self.columns.items()} | {
            OWNERS: self.copies.owners
        }
        said = {
            "format": FORMAT,
            "identity": dict(self.identity),
            "ranges": {name: found.to_json() for name, found in sorted(self.ranges.items())},
            "hashes": list(self.hashes),
            "copies": list(self.copies.kinds),
            "prototypes": dict(self.prototypes),
        }
        content = save(
            {k: np.ascontiguousarray(v) for k, v in tensors.items()}, {KEY: json.dumps(said, sort_keys=True)}
        )
        part = path.with_name(path.name + ".part")
        part.write_bytes(content)
        os.replace(part, path)


def read_reference(path: Path) -> Reference:
    """Read what `Reference.write` wrote.

    Raises:
        StorageError: missing, damaged, or of another format.
    """
    try:
        with safe_open(str(path), framework="numpy") as file:
            said = json.loads((file.metadata() or {})[KEY])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        if said["format"] != FORMAT:
            raise StorageError(
                f"{path}: format {said['format']!r}, expected {FORMAT}; score its cases again."
            )
        return Reference(
            said["identity"],
            {name: ReferenceRange.from_json(content) for name, content in said["ranges"].items()},
            tuple(said["hashes"]),
            tuple(_under(arrays, BLOCK).values()),
            _under(arrays, COLUMN),
            Copies(tuple(said["copies"]), arrays[OWNERS], tuple(_under(arrays, COPY_BLOCK).values())),
            said["prototypes"],
        )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StorageError(
            f"{path}: not a readable reference ({type(error).__name__}: {error}); expected the file that `sfumato "
            "difficulty score` writes beside an index."
        ) from error


def _under(arrays: Mapping[str, np.ndarray], mark: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(mark): arrays[name] for name in sorted(arrays) if name.startswith(mark)}


def fit_ranges(
    axes: Sequence[str],
    scales: np.ndarray,
    classes: Sequence[Mapping[str, float]],
    method: Literal["minmax", "percentile"] = "minmax",
) -> dict[str, ReferenceRange]:
    """Ranges per axis, and per axis and class; values that are undefined do not enter.

    Args:
        axes: of each case: `D` or `H`, which are different scores.
        scales: (cases,) scale of each case.
        classes: per case class name -> scale.
        method: see `ReferenceRange`.
    """
    values: dict[str, list[float]] = {}
    for axis, scale, own in zip(axes, scales, classes, strict=True):
        values.setdefault(axis, []).append(float(scale))
        for name, value in own.items():
            values.setdefault(f"{axis}/{name}", []).append(float(value))
    return {key: ReferenceRange.from_values(found, method) for key, found in values.items()}
