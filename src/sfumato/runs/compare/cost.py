"""What each part of a shared pass costs: processor and wall seconds, and working memory."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")


@dataclass
class Cost:
    """Of one part.

    Args:
        cpu: processor seconds of all threads.
        wall: seconds by the clock.
        peak: bytes by which one call raised what the process held; None where the system does not tell.
    """

    cpu: float = 0.0
    wall: float = 0.0
    peak: float | None = None


@dataclass
class CostMeter:
    """A `Watch` for `sfumato.pipeline.case.predict_methods`: adds up what is spent inside each part.

    Example:
        >>> meter = CostMeter()
        >>> with meter("segmenter"):
        ...     total = sum(range(1000))
        >>> meter.parts["segmenter"].wall > 0
        True
    """

    parts: dict[str, Cost] = field(default_factory=dict)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Measure the block as a piece of `part`."""
        cost = self.parts.setdefault(part, Cost())
        before = _fresh_memory()
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        cost.cpu += time.process_time() - cpu
        cost.wall += time.perf_counter() - wall
        if before is not None:
            cost.peak = max(cost.peak or 0.0, _status("VmHWM") - before)


def _fresh_memory() -> float | None:
    """Resident bytes, after the high-water mark was set back to them; None where the kernel has no such mark."""
    try:
        # Blocks that were freed but not given back would hide what is allocated next.
        ctypes.CDLL(None).malloc_trim(0)
        RESET.write_text("5")
        return _status("VmRSS")
    except (OSError, AttributeError):
        return None


def _status(name: str) -> float:
    line = next(n for n in STATUS.read_text().splitlines() if n.startswith(name))
    return 1024.0 * int(line.split()[1])
