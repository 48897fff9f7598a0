"""Networks for the same planes, from the cheapest to the best."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ...errors import ConfigError
from .protocol import PromptableSegmenter


@dataclass(frozen=True)
class Ladder:
    """Networks for the same planes, the cheapest first: whether the next one would do better is the model gap.

    Args:
        rungs: the networks.
        names: one each, without a colon or slash, for columns and heads.
        costs: of encoding a plane, relative to the first rung; ascending.
    """

    rungs: tuple[PromptableSegmenter, ...]
    names: tuple[str, ...]
    costs: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.rungs)


def ladder_of(rungs: Sequence[PromptableSegmenter], costs: Sequence[float] | None = None) -> Ladder:
    """Networks in the order of their costs.

    Args:
        rungs: in any order; those of equal cost keep it.
        costs: of encoding a plane, in any unit; by default side^2, which tells sides apart but not sizes of networks:
            for these give them in their order, or what `measure_costs` found.

    Raises:
        ConfigError: no networks, one twice, or costs that are not one positive number each.
    """
    keys = [rung.card.key for rung in rungs]
    if not rungs or len(set(keys)) < len(keys):
        raise ConfigError(f"A ladder of {', '.join(keys) or 'no networks'}, expected different networks.")
    given = [float(rung.card.side) ** 2 for rung in rungs] if costs is None else list(costs)
    if len(given) != len(rungs) or min(given) <= 0:
        raise ConfigError(f"Costs {given} of {len(rungs)} networks, expected one positive number each.")
    order = sorted(range(len(rungs)), key=lambda i: given[i])
    cheapest = given[order[0]]
    kept = tuple(rungs[i] for i in order)
    return Ladder(kept, _short_names(kept), tuple(given[i] / cheapest for i in order))


def measure_costs(
    rungs: Sequence[PromptableSegmenter], plane: Float[Tensor, "channels height width"], repeats: int = 3
) -> tuple[float, ...]:
    """Seconds that each network takes to encode a plane here: the median, after one encoding that warms it up.

    Args:
        rungs: the networks; not behind a cache, which would answer at once.
        plane: intensities in [0, 1].
        repeats: timed encodings of each network.
    """
    costs = []
    for rung in rungs:
        rung.encode(plane)
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            rung.encode(plane)
            seconds.append(time.perf_counter() - start)
        costs.append(statistics.median(seconds))
    return tuple(costs)


def _short_names(rungs: Sequence[PromptableSegmenter]) -> tuple[str, ...]:
    """`minisam512` from a card: the last part of its name, and its side; numbered where two are equal."""
    plain = [
        "".join(c if c.isalnum() else "_" for c in r.card.name.rstrip("/").split("/")[-1]) for r in rungs
    ]
    named = [f"{name.removeprefix('hf_')}{rung.card.side}" for name, rung in zip(plain, rungs, strict=True)]
    return tuple(n if named.count(n) == 1 else f"{n}_{i}" for i, n in enumerate(named))
