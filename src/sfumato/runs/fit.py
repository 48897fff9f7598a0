"""`sfumato fit`: a frozen segmenter and labelled cases in, a method folder out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..datasets import Case, Dataset, Splits, open_dataset
from ..datasets.splits import PATIENT_PATTERN, SPLIT_NAMES
from ..decision import DecisionRule
from ..interfaces import FitContext, Method
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
)
from ..types import Batch
from .assess import assess_cases, calibration_record
from .files import locked
from .fit_plan import FitOptions, check_networks, same_fit, shared_out
from .manifest import Manifest
from .text.model import refuse_sentences


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
        ConfigError: networks missing, or given to a method that runs none; a folder of another fit; a segmenter that
            reads sentences, see `runs.text.fit`.
    """
    options = options or FitOptions()
    spec = get_method(name)
    check_networks(spec, networks)
    refuse_sentences(
        segmenter,
        f"fit {name}",
        f"fit it with `sfumato fit {name}` or `fit_texts`, judge it with `sfumato evaluate text_guided`",
    )
    config = config_from_plain(spec.config, settings or {})
    dataset = open_dataset(data, patient_pattern)
    chosen = splits or dataset.splits()
    with locked(out):
        fitting, calibrating, problems = _parts(dataset, chosen, segmenter, options, spec.fits, say)
        settled = {"method": name, "settings": asdict(config), "options": asdict(options)}
        settled |= {"segmenter": weights_sha256(segmenter.module), "fitting": sorted(fitting)}
        if networks:
            settled["networks"] = [weights_sha256(network.module) for network in networks]
        if same_fit(out, settled) and (out / METHOD_FILE).exists():
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


def _parts(
    dataset: Dataset,
    splits: Splits,
    segmenter: FrozenSegmenter,
    options: FitOptions,
    fits: bool,
    say: Callable[[str], None],
):
    fitting, calibrating = shared_out(dataset, splits, options, fits, say)
    problems = list(dataset.problems)

    def gather(part: Sequence[Case]) -> dict[str, Any]:
        found = gather_samples(part, segmenter.spec, options.instances, options.resample)
        problems.extend(found.problems)
        return {s.name: s for s in found.samples}

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
