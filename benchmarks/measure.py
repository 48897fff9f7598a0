"""How a benchmark measures: CPU and wall seconds of repeated calls, and peak memory in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, load and versions: figures without them say little."""
    import torch

    return {
        "processor": platform.processor() or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def timed(function: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Minimum and median CPU and wall seconds of at least five calls, after one that does not count."""
    function()
    cpu, wall = [], []
    for _ in range(max(5, repeats)):
        start_cpu, start = time.process_time(), time.perf_counter()
        function()
        cpu.append(time.process_time() - start_cpu)
        wall.append(time.perf_counter() - start)
    return {
        "cpu_min": min(cpu),
        "cpu_median": statistics.median(cpu),
        "wall_min": min(wall),
        "wall_median": statistics.median(wall),
    }


def peak_memory(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> int:
    """Bytes by which one call raises the peak of a fresh process, after `prepare(*arguments)` has built its inputs."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_peak, prepare, arguments).result()


def _peak(prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...]) -> int:
    import torch

    torch.set_num_threads(1)
    function = prepare(*arguments)
    # The kernel's high-water mark outlives fork and exec, so it is set back to what the process holds now.
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    function()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    line = next(n for n in Path("/proc/self/status").read_text().splitlines() if n.startswith(field))
    return int(line.split()[1]) * 1024


def show(result: Mapping[str, Any]) -> None:
    """The same figures for people."""
    print(f"{result['name']}  {result['machine']}")
    for row in result["rows"]:
        print(
            "  " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())
        )
    for name, value in result["ratios"].items():
        print(f"  {name} {value:.4g}")
