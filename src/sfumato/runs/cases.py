"""Case after case into folders of their own: finished ones are kept, a failure stops nobody else."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import SfumatoError, StorageError
from ..segmenters.pinned import sha256_of
from .files import InputCase, write_text
from .manifest import Manifest

CASE_FILE = "case.json"
DISK_FULL = errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EDQUOT
"""The next case would fail in the same way."""


@dataclass(frozen=True)
class FinishedCases:
    """What a run did.

    Args:
        done: cases computed now.
        kept: cases found finished from an earlier run.
        failures: one sentence per case that could not be finished.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Of all cases that have a folder, sorted."""
        return sorted([*self.done, *self.kept])


def finish_cases(
    cases: Sequence[InputCase],
    out: Path,
    manifest: Manifest,
    asked: Callable[[InputCase], Mapping[str, Any]],
    finish: Callable[[InputCase, Mapping[str, Any]], float | None],
    note: Callable[[str, str], None],
) -> FinishedCases:
    """Finish every case that is not finished yet.

    Args:
        cases: what was given.
        out: holds a folder per case.
        manifest: receives the hashes of the inputs, and the seconds that `finish` tells.
        asked: everything but the input files that decides what comes out of a case, in plain types.
        finish: writes the folder of a case, with its second argument in `CASE_FILE` (see `write_case`).
        note: told each case's name and `start`, `done`, `kept` or `failed`.

    Raises:
        StorageError: the disk is full or not writable.
    """
    done, kept, failures = [], [], []
    for case in cases:
        note(case.name, "start")
        try:
            hashes = {path.name: _hash(path, case.name) for path in case.images}
            manifest.inputs[case.name] = hashes
            identity = json.loads(json.dumps({**asked(case), "inputs": hashes}))
            if _is_finished(out / case.name, identity):
                kept.append(case.name)
                note(case.name, "kept")
                continue
            seconds = finish(case, identity)
            if seconds is not None:
                manifest.seconds[case.name] = seconds
            done.append(case.name)
            note(case.name, "done")
        except SfumatoError as error:
            failures.append(str(error))
            note(case.name, "failed")
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            raise StorageError(
                f"{case.name}: could not be written to {out} ({error.strerror}); free space and run the same command "
                "again, finished cases are kept."
            ) from error
    return FinishedCases(tuple(done), tuple(kept), tuple(failures))


def write_case(folder: Path, content: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Write `CASE_FILE`: what was found, and what it depends on, by which a later run knows the case again."""
    text = json.dumps({**content, **identity}, indent=2, ensure_ascii=False)
    write_text(folder / CASE_FILE, text + "\n")


def _hash(path: Path, name: str) -> str:
    try:
        return sha256_of(path)
    except StorageError as error:
        raise SfumatoError(f"{name}: {error} Check the path.") from error


def _is_finished(folder: Path, identity: Mapping[str, Any]) -> bool:
    try:
        content = json.loads((folder / CASE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return {name: content.get(name) for name in identity} == dict(identity)
