"""`sfumato fit`: a frozen segmenter and labelled cases in, a method folder out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..datasets import Case, Dataset, Splits, open_dataset
from ..datasets.splits import PATIENT_PATTERN, SPLIT_NAMES, out_of_fold
from ..decision import DecisionRule
from ..errors import ConfigError, DatasetError
from ..interfaces import FitContext, Method, MethodSpec
from ..pipeline.pieces import pieces_of
from ..pipeline.samples import gather_samples
from ..registry import get_method
from ..segmenters.pinned import weights_sha256
from ..segmenters.wrap import FrozenSegmenter
from ..storage import (
    METHOD_FILE,
    config_from_plain,
    read_json,
    read_record,
    save_method,
    write_json,
)
from ..types import Batch
from .assess import assess_cases, calibration_record
from .files import locked
from .manifest import Manifest

CALIBRATING_FOLDS = 3
"""One in this many patients of the calibration split calibrates; the others fit the score."""


@dataclass(frozen=True)
class FitOptions:
    """How to fit a method.

    Args:
        fit_on: the split the score is learned from. `calibration` cases were not seen by the segmenter; `train`
            cases were, errors there are few and atypical, and a warning says so.
        target_risk: mean 1 - Dice wanted among accepted cases; None is nine tenths of the calibration cases' mean.
        target_voxel_risk: error rate wanted among accepted voxels near the foreground.
        instances: label files number objects.
        resample: accept sheared or contradictory headers.
        seed: of everything random.
        device: `auto`, `cpu` or `cuda`.
    """

    fit_on: Literal["calibration", "train"] = "calibration"
    target_risk: float | None = None
    target_voxel_risk: float = 0.01
    instances: bool = False
    resample: bool = False
    seed: int = 0
    device: str = "auto"


def fit_method(
    name: str,
    segmenter: FrozenSegmenter,
    data: Path,
    out: Path,
    settings: dict[str, Any] | None = None,
    options: FitOptions | None = None,
    splits: Splits | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    say: Callable[[str], None] = print,
    networks: Sequence[FrozenSegmenter] = (),
) -> dict[str, Any]:
    """Fit a registered method on a frozen segmenter and write it, its rules and its calibration into `out`.

    Args:
        name: of the method.
        segmenter: frozen.
        data: data set folder.
        out: gets `method.json`, `estimator.safetensors`, `segmenter/`, `manifest.json`, and `networks/` where there
            are some.
        settings: fields of the method's settings that differ from their defaults.
        options: see `FitOptions`.
        splits: of the data set; those the segmenter was trained with, if they are known.
        patient_pattern: see `sfumato.datasets`.
        say: receives lines for people.
        networks: further frozen networks of the same task, for methods that run several.

    Returns:
        The record that is kept in `method.json`.

    Raises:
        ConfigError: networks missing, or given to a method that runs none; a folder of another fit.
    """
    options = options or FitOptions()
    spec = get_method(name)
    _check_networks(spec, networks)
    config = config_from_plain(spec.config, settings or {})
    dataset = open_dataset(data, patient_pattern)
    chosen = splits or dataset.splits()
    with locked(out):
        fitting, calibrating, problems = _parts(dataset, chosen, segmenter, options, spec.fits, say)
        settled = {"method": name, "settings": asdict(config), "options": asdict(options)}
        settled |= {"segmenter": weights_sha256(segmenter.module), "fitting": sorted(fitting)}
        if networks:
            settled["networks"] = [weights_sha256(network.module) for network in networks]
        if _same_fit(out, settled) and (out / METHOD_FILE).exists():
            say(f"{out}: fitted before, kept")
            return read_record(out)
        context = FitContext(out / "fit", options.seed, options.device, say, tuple(networks))
        pieces = [piece for sample in fitting.values() for piece in pieces_of(sample, segmenter.spec)]
        held = [piece for sample in calibrating.values() for piece in pieces_of(sample, segmenter.spec)]
        method = spec.fit(config, segmenter, pieces, held, context)
        record = _record(method, dataset, calibrating, fitting, chosen, options)
        save_method(out, method, record | {"problems": problems})
        manifest = Manifest(
            "fit", {"method": name, "settings": asdict(config), **asdict(options)}, options.seed
        )
        manifest.failures = problems
        manifest.write(out)
    return record | {"problems": problems}


def _check_networks(spec: MethodSpec, networks: Sequence[FrozenSegmenter]) -> None:
    if networks and not spec.networks:
        raise ConfigError(
            f"{spec.name} runs no further networks and got {len(networks)}; leave --members out, or fit deep_ensemble."
        )
    if len(networks) < spec.networks:
        raise ConfigError(
            f"{spec.name} runs further networks and got {len(networks)}, expected at least {spec.networks}; give "
            "their folders with --members."
        )


def _same_fit(out: Path, settled: dict[str, Any]) -> bool:
    """Whether this very fit began here before; its checkpoints are resumed, so those of another are refused."""
    path, content = out / "fit.json", json.loads(json.dumps(settled))
    begun = path.exists()
    before = read_json(path) if begun else content
    different = [k for k in content if before.get(k) != content[k]]
    if different:
        raise ConfigError(
            f"{out}: holds a fit with another {', '.join(different)}; choose another --out, or delete it."
        )
    write_json(path, content)
    return begun


def _parts(
    dataset: Dataset,
    splits: Splits,
    segmenter: FrozenSegmenter,
    options: FitOptions,
    fits: bool,
    say: Callable[[str], None],
):
    cases = [dataset.cases[n] for n in splits.calibration]
    if not cases:
        raise DatasetError(
            "The calibration split is empty; a method is calibrated on cases nobody was trained on."
        )
    fold = out_of_fold([c.patient for c in cases], CALIBRATING_FOLDS, options.seed)
    calibrating = [c for c, f in zip(cases, fold, strict=True) if f == 0]
    fitting = [c for c, f in zip(cases, fold, strict=True) if f != 0]
    if options.fit_on == "train":
        say(
            "warning: fitting on cases the segmenter was trained on; their errors are few and not typical of new cases"
        )
        fitting, calibrating = [dataset.cases[n] for n in splits.train], cases
    elif options.fit_on != "calibration":
        raise ConfigError(f"fit_on={options.fit_on!r}, expected calibration or train.")
    if not fits:
        fitting, calibrating = [], cases
    problems = list(dataset.problems)

    def gather(part: Sequence[Case]) -> dict[str, Any]:
        found = gather_samples(part, segmenter.spec, options.instances, options.resample)
        problems.extend(found.problems)
        return {s.name: s for s in found.samples}

    learners = (
        f"{len(fitting)} cases fit the score, {len(calibrating)} others"
        if fits
        else f"{len(calibrating)} cases"
    )
    say(f"{learners} calibrate it")
    return gather(fitting) if fitting else {}, gather(calibrating), problems


def _record(
    method: Method, dataset: Dataset, calibrating: Any, fitting: Any, splits: Splits, options: FitOptions
) -> dict[str, Any]:
    cases = [dataset.cases[name] for name in calibrating]
    assessed = assess_cases(method, cases, options.instances, options.resample)
    return {
        **calibration_record(method, assessed, options.target_risk, options.target_voxel_risk),
        "fitted_on": sorted(fitting),
        "calibrated_on": sorted(calibrating),
        "options": asdict(options),
        "splits": splits.to_json(),
        "segmenter": asdict(replace(method.segmenter.spec, arguments={})).get("source", ""),  # type: ignore[attr-defined]
    }


def recorded_splits(segmenter_folder: Path, dataset: Dataset) -> Splits | None:
    """The splits a trained segmenter wrote down, if they are about this data set."""
    path = segmenter_folder / "segmenter.json"
    content = read_json(path).get("record", {}).get("splits") if path.exists() else None
    if not content:
        return None
    splits = Splits(*(tuple(content[name]) for name in SPLIT_NAMES))
    known = set(dataset.cases)
    return splits if all(set(splits[name]) <= known for name in SPLIT_NAMES) else None


def rule_of(record: dict[str, Any], level: str = "case") -> DecisionRule | None:
    """The decision rule in a method's record."""
    content = record.get("rules", {}).get(level)
    return DecisionRule.from_json(content) if content else None


__all__ = ["Batch", "FitOptions", "fit_method", "recorded_splits", "rule_of"]
