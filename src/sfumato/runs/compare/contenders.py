"""The methods that are compared: fitted where that is still to do, all on one segmenter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...datasets import Splits
from ...errors import ConfigError
from ...interfaces import Method
from ...registry import get_method
from ...segmenters.pinned import sha256_of
from ...segmenters.wrap import FrozenSegmenter
from ...storage import METHOD_FILE, load_method, read_record
from ...training.device import pick_device
from ..assess import BASELINE
from ..fit import FitOptions, fit_method


@dataclass(frozen=True)
class Contender:
    """One method of a comparison.

    Args:
        label: its name in tables: the method's, or its folder's where it was fitted before.
        method: ready, on the shared segmenter.
        record: how it was fitted.
        identity: of its settings and weights; another one makes finished cases void.
    """

    label: str
    method: Method
    record: Mapping[str, Any]
    identity: str

    @property
    def passes(self) -> int:
        """Forward passes per image, the shared one included."""
        return int(getattr(self.method.estimator, "pass_count", 1))


@dataclass(frozen=True)
class FitPlan:
    """What is fitted, on what.

    Args:
        methods: names to fit.
        fitted: folders of methods fitted before.
        settings: per method, fields of its settings that differ from the defaults.
        members: folders of further networks, for methods that run several.
        options: see `FitOptions`.
        patient_pattern: see `sfumato.datasets`.
        allow_pickle: see `sfumato.storage.load_method`.
    """

    methods: Sequence[str]
    fitted: Sequence[Path] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    members: Sequence[FrozenSegmenter] = ()
    options: FitOptions = field(default_factory=FitOptions)
    patient_pattern: str = ""
    allow_pickle: bool = False


def make_contenders(
    plan: FitPlan,
    segmenter: FrozenSegmenter,
    data: Path,
    out: Path,
    splits: Splits,
    say: Callable[[str], None],
) -> list[Contender]:
    """Fit what is not fitted yet into `out/NAME`, and load everything onto the one segmenter.

    Raises:
        UnknownNameError: no such method.
        ConfigError: a name twice, settings for a method that is not compared, or members nobody runs.
    """
    names = list(dict.fromkeys([BASELINE, *plan.methods]))
    _check(plan, names)
    found = []
    for name in names:
        spec, folder = get_method(name), out / name
        say(f"{name}: {'fitted before' if (folder / METHOD_FILE).exists() else 'fitting'}")
        networks = tuple(plan.members) if spec.networks else ()
        fit_method(
            name,
            segmenter,
            data,
            folder,
            dict(plan.settings.get(name, {})),
            plan.options,
            splits,
            plan.patient_pattern,
            say,
            networks,
        )
        found.append(_load(name, folder, segmenter, plan.allow_pickle))
    return [*found, *(_load(path.name, path, segmenter, plan.allow_pickle) for path in plan.fitted)]


def _check(plan: FitPlan, names: Sequence[str]) -> None:
    specs = [get_method(name) for name in names]
    labels = [*names, *(path.name for path in plan.fitted)]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise ConfigError(f"{twice!r} is compared twice; rename one of the folders, or leave one out.")
    stray = next((name for name in plan.settings if name not in names), None)
    if stray:
        raise ConfigError(
            f"a setting for {stray!r}, which is not compared; expected one of {', '.join(names)}."
        )
    if plan.members and not any(spec.networks for spec in specs):
        raise ConfigError("members were given, but no method that runs several networks; add deep_ensemble.")
    lonely = next((s.name for s in specs if s.networks > len(plan.members)), None)
    if lonely:
        raise ConfigError(
            f"{lonely} runs further networks and got {len(plan.members)}; give their folders with --members, or "
            f"leave {lonely} out of --methods."
        )


def _load(label: str, folder: Path, segmenter: FrozenSegmenter, allow_pickle: bool) -> Contender:
    method = load_method(folder, allow_pickle, segmenter)
    digest = hashlib.sha256()
    for name in ("estimator.safetensors", METHOD_FILE):
        digest.update(sha256_of(folder / name).encode())
    return Contender(label, method, read_record(folder), digest.hexdigest())


def move_to_device(contenders: Sequence[Contender], segmenter: FrozenSegmenter, name: str) -> None:
    """Move the segmenter, everything fitted, and further networks."""
    device = pick_device(name)
    segmenter.to(device)
    for contender in contenders:
        contender.method.estimator.to(device)  # type: ignore[attr-defined]
        for network in contender.method.networks:
            network.to(device)  # type: ignore[attr-defined]
