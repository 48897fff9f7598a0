"""Killed and restarted: nothing is lost but a shard, nothing counts twice, and the index is the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato.errors import ConfigError, StorageError
from sfumato.runs.difficulty.shards import ShardFolder, read_rows, write_shard
from sfumato.runs.difficulty.table import empty_row
from sfumato.runs.files import locked

SAME = {"shard_size": 4, "copies": 50, "thumbnails": True}
"""What the command below does, for runs in this process."""


def command(data: Path, out: Path, *more: str) -> list[str]:
    settings = ["--extractor", "pixels", "--shard-size", "4", "--workers", "1", "--no-gallery", *more]
    return [sys.executable, "-m", "sfumato", "difficulty", "score", str(data), "--out", str(out), *settings]


def kill_when(path: Path, shards: int, process: subprocess.Popen) -> None:
    """SIGKILL as soon as that many shards are there."""
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(path.glob("part-*.parquet"))) >= shards:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.002)
    raise AssertionError(f"ended with {process.poll()} before it had {shards} shards")


def test_a_killed_run_is_finished_by_the_same_command(pictures, score, tmp_path):
    """P32: byte for byte, whatever the kill left behind. Whole runs are made in this process, which saves time."""
    data, killed = pictures(60), tmp_path / "killed.parquet"
    work = tmp_path / "killed.parquet.parts"
    with subprocess.Popen(command(data, killed), stderr=subprocess.DEVNULL) as process:
        kill_when(work, 3, process)
    assert not killed.exists()
    finished, whole = (score(data, f"{name}.parquet", **SAME) for name in ("killed", "whole"))
    assert 0 < finished.scored < 60 == whole.scored
    assert finished.index.read_bytes() == whole.index.read_bytes()
    assert finished.reference.read_bytes() == whole.reference.read_bytes()
    names = [
        row["case"] for shard in sorted(work.glob("part-*.parquet")) for row in read_rows(shard, ["case"])
    ]
    assert sorted(names) == sorted(set(names))
    assert len(names) == 60


def test_only_what_is_missing_is_done(pictures, score):
    data = pictures(7)
    assert score(data).scored == 7
    assert score(data).scored == 0
    work = data.parent / "index.parquet.parts"
    sorted(work.glob("part-*.parquet"))[1].unlink()
    assert score(data).scored == 3


def test_half_a_shard_is_no_shard(pictures, score, rows_of):
    data = pictures(5)
    before = rows_of(score(data).index)
    work = data.parent / "index.parquet.parts"
    shard = sorted(work.glob("part-*.parquet"))[0]
    shard.rename(work / f".{shard.name}.123.part")
    summary = score(data)
    assert summary.scored == 3
    assert list(rows_of(summary.index)) == list(before)


def test_new_cases_join_an_index(pictures, score, rows_of):
    data = pictures(4)
    score(data)
    for part in ("images", "masks"):
        source = np.array(PillowImage.open(data / part / "phantom_001.png"))
        PillowImage.fromarray(source[::-1].copy()).save(data / part / "phantom_new.png")
    summary = score(data)
    assert (summary.scored, summary.kept) == (1, 4)
    for part in ("images", "masks"):
        (data / part / "phantom_new.png").unlink()
    assert "phantom_new" not in rows_of(score(data).index)


def test_other_settings_are_refused_and_named(pictures, score):
    data = pictures(4)
    score(data)
    with pytest.raises(ConfigError, match=r"other settings \(maps, thumbnails\)"):
        score(data, maps="principal", thumbnails=True)


def test_another_run_on_the_same_index_is_refused(pictures, score):
    data = pictures(3)
    with locked(data.parent / "index.parquet.parts"), pytest.raises(StorageError, match="another run"):
        score(data)


def test_failures_are_done_again_only_when_asked(pictures, score, rows_of):
    data = pictures(4)
    path = data / "images/phantom_002.png"
    good = path.read_bytes()
    path.write_bytes(b"no picture")
    score(data)
    path.write_bytes(good)
    assert score(data).statuses == {"error": 1, "ok": 3}
    summary = score(data, retry=True)
    assert (summary.scored, summary.statuses) == (1, {"ok": 4})
    assert rows_of(summary.index)["phantom_002"]["message"] == ""


def test_the_newest_row_of_a_case_counts_and_counts_once(tmp_path):
    folder = ShardFolder(tmp_path / "work", {"extractor": "pixels"})
    for number, status in enumerate(("error", "ok", "ok"), start=9):
        write_shard(folder.folder, number, [empty_row() | {"case": "a", "status": status, "voxels": number}])
    assert folder.rows()["a"]["voxels"] == 11
    assert folder.finished(retry=True) == {"a"}
    assert folder.next_number == 12


def test_a_worker_that_outlives_its_run_overwrites_no_shard(tmp_path):
    first = write_shard(tmp_path, 1, [empty_row() | {"case": "a"}])
    second = write_shard(tmp_path, 1, [empty_row() | {"case": "b"}])
    assert first != second
    assert set(ShardFolder(tmp_path, {}).rows()) == {"a", "b"}


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        write_shard(tmp_path, 1, [empty_row() | {"case": "a"}])
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ray_gives_the_same_bytes(pictures, tmp_path):
    """In a process of its own: Ray leaves sockets open, which this test run counts as errors."""
    pytest.importorskip("ray", reason="needs the distributed extra")
    data = pictures(9)
    for engine in ("local", "ray"):
        done = subprocess.run(
            command(data, tmp_path / f"{engine}.parquet", "--engine", engine),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "local.parquet").read_bytes() == (tmp_path / "ray.parquet").read_bytes()
