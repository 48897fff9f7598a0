"""`manifest.json`: what ran, on what, with which versions, for how long, in how much memory."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..storage import write_json

PACKAGES = ("sfumato", "torch", "numpy", "scipy", "nibabel", "safetensors", "monai")


def versions() -> dict[str, str]:
    """Of Python and of the packages that matter, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@dataclass
class Manifest:
    """Collects what a run did; the only output that differs between two equal runs, as it holds times.

    Args:
        command: name of the command.
        config: its settings, plain types.
        seed: of everything random.
    """

    command: str
    config: Mapping[str, Any]
    seed: int = 0
    inputs: dict[str, Mapping[str, str]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    _start: float = field(default_factory=time.time)

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        content = {
            "command": self.command,
            "config": dict(self.config),
            "seed": self.seed,
            "versions": versions(),
            "platform": f"{platform.system()} {platform.machine()}",
            "inputs": self.inputs,
            "failures": self.failures,
            "notes": self.notes,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._start)),
            "seconds": round(time.time() - self._start, 3),
            "seconds_per_case": {k: round(v, 3) for k, v in self.seconds.items()},
            "peak_memory_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1),
        }
        write_json(folder / "manifest.json", content)
