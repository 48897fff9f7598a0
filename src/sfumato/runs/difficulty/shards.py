"""Finished cases on disk: Parquet shards that are there as a whole or not at all.

A killed run leaves at most the shard it was working on undone. A restarted run reads which cases the shards hold and
does the others; the newest row of a case wins, so that no case can count twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import ConfigError, MissingExtraError, StorageError
from ...storage import read_json, write_json
from .table import ERROR, Row, raw_schema

SETTINGS = "settings.json"
DIGITS = 8
"""Hexadecimal digits of the digest in a shard's name."""


def parquet() -> Any:
    """The `pyarrow.parquet` module.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "difficulty", "an index of difficulty") from error
    return pyarrow.parquet


class ShardFolder:
    """The work folder of one index: `settings.json` and `part-00001-1a2b3c4d.parquet`, ...

    Args:
        folder: made if need be.
        settings: everything the rows depend on, plain types.

    Raises:
        ConfigError: the folder holds rows made with other settings; says which differ.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path, wanted = folder / SETTINGS, json.loads(json.dumps(settings))
        if path.exists():
            before = read_json(path)
            different = sorted(k for k in {*before, *wanted} if before.get(k) != wanted.get(k))
            if different:
                raise ConfigError(
                    f"{folder}: holds cases scored with other settings ({', '.join(different)}); choose another "
                    "--out, or delete it."
                )
        write_json(path, wanted)

    @property
    def shards(self) -> list[Path]:
        """Finished shards, oldest first."""
        return sorted(self.folder.glob("part-*.parquet"))

    @property
    def next_number(self) -> int:
        """One more than the highest number of a shard."""
        return max((int(path.name.split("-")[1]) for path in self.shards), default=0) + 1

    def rows(self, columns: Sequence[str] | None = None) -> dict[str, Row]:
        """The newest row of every finished case, by name; `columns` limits what is read."""
        found: dict[str, Row] = {}
        for path in self.shards:
            for row in read_rows(path, columns):
                found[row["case"]] = row
        return found

    def finished(self, retry: bool = False) -> set[str]:
        """Names of the cases that need not be done again; with `retry`, those that failed are not among them."""
        rows = self.rows(["case", "status"])
        return {name for name, row in rows.items() if not (retry and row["status"] == ERROR)}


def write_shard(folder: Path, number: int, rows: Sequence[Row]) -> Path:
    """Write rows under a temporary name, flush them to the disk, then rename.

    The name carries a digest of the cases: a worker that outlives its killed run cannot overwrite another's shard.
    """
    names = "\n".join(sorted(row["case"] for row in rows))
    digest = hashlib.sha256(names.encode()).hexdigest()[:DIGITS]
    path = folder / f"part-{number:05d}-{digest}.parquet"
    write_parquet(path, rows, raw_schema())
    return path


def write_parquet(path: Path, rows: Iterable[Row], schema: Any) -> None:
    """Write a table as a whole or not at all; it survives a power cut once this returns.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    import pyarrow

    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        table = pyarrow.Table.from_pylist(list(rows), schema=schema)
        with part.open("wb") as file:
            parquet().write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StorageError(
            f"{path}: could not be written ({error.strerror}); free space and run the same command again, finished "
            "cases are kept."
        ) from error


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[Row]:
    """The rows of a Parquet file as dictionaries.

    Raises:
        StorageError: missing, damaged, or without one of the columns.
    """
    reader = parquet()
    import pyarrow

    try:
        # Read here, so that a damaged file does not stay open.
        with path.open("rb") as file:
            table = reader.read_table(file, columns=list(columns) if columns else None)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file; run `sfumato difficulty score` first.") from error
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise StorageError(
            f"{path}: not a readable Parquet file ({error}); delete it and score again."
        ) from error
    missing = sorted(set(columns or ()) - set(table.column_names))
    if missing:
        raise StorageError(
            f"{path}: has no column {missing[0]!r}; is it an index of `sfumato difficulty score`?"
        )
    return table.to_pylist()
