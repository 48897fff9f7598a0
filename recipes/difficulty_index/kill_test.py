"""Kill the scoring of a data set at random moments, go on, and compare with a run that nobody touched.

    python recipes/difficulty_index/kill_test.py DATA OUT [--engine local] [--kills 5] [--seed 0] [--shard-size 64]

SIGKILL hits the command after a drawn number of further shards and a drawn delay, so also in the middle of writing
one. Afterwards index and reference must be the undisturbed run's byte for byte, and no case may be in two shards.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from sfumato.runs.difficulty.shards import read_rows

DELAY = 0.5
"""Seconds at most between the shard that is waited for and the kill."""


def command(arguments: argparse.Namespace, out: Path, engine: str) -> list[str]:
    settings = [
        "--extractor",
        "pixels",
        "--engine",
        engine,
        "--workers",
        str(arguments.workers),
        "--no-gallery",
    ]
    settings += ["--shard-size", str(arguments.shard_size), "--threads", "1"]
    return [
        sys.executable,
        "-m",
        "sfumato",
        "difficulty",
        "score",
        str(arguments.data),
        "--out",
        str(out),
        *settings,
    ]


def shards_of(out: Path) -> list[Path]:
    return sorted(out.with_name(out.name + ".parts").glob("part-*.parquet"))


def finish(words: list[str]) -> float:
    """Run to the end; seconds."""
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"exit code {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - start


def kill_after(words: list[str], out: Path, shards: int, delay: float) -> int:
    """Start, wait for that many further shards and the delay, kill; shards that are there then."""
    wanted = len(shards_of(out)) + shards
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and len(shards_of(out)) < wanted:
            time.sleep(0.01)
        time.sleep(delay)
        if process.poll() is not None:
            raise SystemExit(
                f"the run ended with {process.returncode} before it could be killed; use more cases"
            )
        os.kill(process.pid, signal.SIGKILL)
    return len(shards_of(out))


def cases_of(out: Path) -> list[str]:
    return [row["case"] for path in shards_of(out) for row in read_rows(path, ["case"])]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shard-size", type=int, default=64)
    arguments = parser.parse_args()

    arguments.out.mkdir(parents=True, exist_ok=True)
    whole, killed = arguments.out / "whole.parquet", arguments.out / f"killed_{arguments.engine}.parquet"
    fresh = not whole.exists()
    seconds = finish(command(arguments, whole, "local"))
    count = len(read_rows(whole, ["case"]))
    words = command(arguments, killed, arguments.engine)
    rng = np.random.default_rng(arguments.seed)
    most = max(1, len(shards_of(whole)) // (arguments.kills + 1))
    kills, start = [], time.perf_counter()
    for _ in range(arguments.kills):
        there = kill_after(words, killed, int(rng.integers(1, most + 1)), float(rng.uniform(0, DELAY)))
        kills.append({"shards": there, "cases": len(set(cases_of(killed)))})
        print(f"killed with {kills[-1]['cases']} of {count} cases done", file=sys.stderr, flush=True)
    finish(words)
    seconds_with_kills = time.perf_counter() - start
    names = cases_of(killed)
    references = [path.with_suffix(".reference.safetensors").read_bytes() for path in (whole, killed)]
    result = {
        "engine": arguments.engine,
        "cases": count,
        "kills": kills,
        "duplicates": len(names) - len(set(names)),
        "missing": count - len(set(names)),
        "same_index": whole.read_bytes() == killed.read_bytes(),
        "same_reference": references[0] == references[1],
        "cases_per_minute_local_undisturbed": round(60 * count / seconds) if fresh else None,
        "cases_per_minute_with_kills": round(60 * count / seconds_with_kills),
    }
    print(json.dumps(result, indent=2))
    if result["duplicates"] or result["missing"] or not (result["same_index"] and result["same_reference"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
