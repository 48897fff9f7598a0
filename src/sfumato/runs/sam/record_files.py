"""Records of decodes on disk: one file per image, there as a whole or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import StorageError
from ...methods.sam_gaps.records import GapRecords

SUFFIX = ".records.npz"
IDENTITY = "identity"


def save_records(path: Path, records: GapRecords | None, identity: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename.

    Args:
        path: of the file.
        records: of one image; None where it has no object.
        identity: everything that they depend on; to be found again it must be the same.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {} if records is None else records.to_arrays()
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        said = json.dumps(identity, sort_keys=True)
        np.savez(file, **{IDENTITY: np.array(said)}, **arrays)  # type: ignore[arg-type]
    os.replace(part, path)


def is_collected(path: Path, identity: Mapping[str, Any]) -> bool:
    """Whether the file is there, whole, and of this very run."""
    try:
        with path.open("rb") as file, np.load(file) as stored:
            return json.loads(str(stored[IDENTITY])) == json.loads(json.dumps(identity))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return False


def read_records(path: Path) -> GapRecords | None:
    """What `save_records` wrote; None where the image has no object.

    Raises:
        StorageError: missing or damaged.
    """
    try:
        with path.open("rb") as file, np.load(file) as stored:
            arrays = {name: stored[name] for name in stored.files if name != IDENTITY}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise StorageError(f"{path}: not readable records ({error}); collect them again.") from error
    return GapRecords.from_arrays(arrays) if arrays else None


def load_records(folder: Path, cases: Iterable[str] | None = None) -> GapRecords:
    """All records of a folder, or those of some cases; in the order of the cases' names.

    Args:
        folder: that `collect` wrote to.
        cases: names; those that were not collected, as they could not be read, are passed over. None takes all.

    Raises:
        StorageError: a damaged file, or no records at all.
    """
    paths = sorted(Path(folder).glob(f"*{SUFFIX}"))
    if cases is not None:
        wanted = set(cases)
        paths = [path for path in paths if path.name.removesuffix(SUFFIX) in wanted]
    parts = [records for path in paths if (records := read_records(path)) is not None]
    if not parts:
        raise StorageError(
            f"{folder}: no records of {'these' if cases is not None else 'any'} cases; collect first."
        )
    return GapRecords.cat(parts)
