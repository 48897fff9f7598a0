"""Judged masks of an image, in memory and on disk: one file per image, there as a whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import Case

SUFFIX = ".judged.npz"


@dataclass(frozen=True)
class JudgedMask:
    """One object's mask and what is expected of it.

    Args:
        case: image that it is in.
        name: of the object.
        value: label value that it came from, or its number in the prompts file.
        plane: slice of a volume; 0 in pictures.
        expected_iou: of the mask.
        low: of its interval.
        high: its upper end.
        own_estimate: of the network.
        model_gap: see `Assessment`.
        prompt_gap: see `Assessment`.
        task_gap: see `Assessment`.
        pixels: of the mask.
        agreement: IoU with the mask that the prompt was drawn from; None with a prompts file.
    """

    case: str
    name: str
    value: int
    plane: int
    expected_iou: float
    low: float
    high: float
    own_estimate: float
    model_gap: float
    prompt_gap: float
    task_gap: float
    pixels: int
    agreement: float | None


@dataclass(frozen=True)
class JudgedCase:
    """All objects of one image.

    Args:
        case: the image.
        masks: judged.
        pixels: (masks, height, width) of each.
        thumbnails: PNG bytes of each.
    """

    case: Case
    masks: tuple[JudgedMask, ...]
    pixels: np.ndarray
    thumbnails: tuple[bytes, ...]


def write_judged(path: Path, judged: JudgedCase, identity: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = json.dumps({"identity": identity, "masks": [asdict(mask) for mask in judged.masks]})
    pictures = {f"thumbnail_{i}": np.frombuffer(png, np.uint8) for i, png in enumerate(judged.thumbnails)}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez_compressed(file, said=np.array(said), pixels=judged.pixels, **pictures)  # type: ignore[arg-type]
    os.replace(part, path)


def read_judged(path: Path, case: Case, identity: Mapping[str, Any]) -> JudgedCase | None:
    """What `write_judged` wrote; None where there is nothing, something of another run, or a damaged file."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            said = json.loads(str(stored["said"]))
            if said["identity"] != identity:
                return None
            masks = tuple(JudgedMask(**mask) for mask in said["masks"])
            thumbnails = tuple(stored[f"thumbnail_{i}"].tobytes() for i in range(len(masks)))
            return JudgedCase(case, masks, stored["pixels"], thumbnails)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
