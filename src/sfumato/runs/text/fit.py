"""`sfumato fit text_guided`: a trained network and labelled cases with sentences in, a calibrated method folder out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...datasets import Splits, TextTable, read_text_table
from ...datasets.splits import PATIENT_PATTERN, out_of_fold
from ...errors import ConfigError, DatasetError, InputError, SfumatoError
from ...imaging import read_image
from ...interfaces import FitContext, Method
from ...methods.text_guided import TextDoubtConfig
from ...methods.text_guided.told_samples import ToldSample
from ...pipeline.pieces import pieces_of
from ...registry import get_method
from ...segmenters.pinned import weights_sha256
from ...segmenters.wrap import FrozenSegmenter
from ...storage import METHOD_FILE, load_segmenter_folder, read_json, read_record, save_method, write_json
from ...types import Batch, TextPrompt
from ..assess import BASELINE, AssessedCase, Assessment, assess_image, calibration_record
from ..files import locked
from ..fit import CALIBRATING_FOLDS
from ..judge import Truth
from ..manifest import Manifest
from .evaluate import recorded_splits
from .samples import read_classes, read_told
from .sentences import read_sentences, write_sentences

FIT_FILE = "fit.json"
NAME = "text_guided"


@dataclass(frozen=True)
class TextFitOptions:
    """How a trained network is calibrated.

    Args:
        method: see `TextDoubtConfig`.
        level: of detail of the sentences, where there are several.
        target_risk: mean 1 - Dice wanted among accepted cases; None is nine tenths of the calibration cases' mean.
        target_voxel_risk: error rate wanted among accepted voxels near the foreground.
        resample: accept sheared or contradictory headers.
        seed: of everything random.
        device: `auto`, `cpu` or `cuda`.
    """

    method: TextDoubtConfig = field(default_factory=TextDoubtConfig)
    level: str | None = None
    target_risk: float | None = None
    target_voxel_risk: float = 0.01
    resample: bool = False
    seed: int = 0
    device: str = "auto"


def fit_texts(
    segmenter: Path,
    data: Path,
    out: Path,
    options: TextFitOptions | None = None,
    splits: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Calibrate a trained network on the calibration split, each case with its sentence.

    Two thirds of its patients fit the temperature, the others the chance of error and the decision rules.

    Args:
        segmenter: folder of `train_texts`.
        data: folder or table, see `read_text_table`.
        out: gets what `save_method` writes, `sentences.json` and `manifest.json`.
        options: see `TextFitOptions`.
        splits: JSON file; those of the training by default.
        patient_pattern: see `read_text_table`.
        say: receives lines for people.

    Returns:
        The record that is kept in `method.json`, and problems.

    Raises:
        DatasetError: calibration cases of fewer than two patients, or splits that are not known.
        ConfigError: a folder of another fit.
        StorageError: no such segmenter.
    """
    options = options or TextFitOptions()
    network, table = load_segmenter_folder(segmenter), read_text_table(data, patient_pattern)
    parts = table.dataset().splits(splits) if splits else recorded_splits(segmenter, table)
    fitting_names, names = _shared_out(table, parts, options.seed)
    spec = get_method(NAME)
    with locked(out):
        settled = asdict(options) | {"segmenter": weights_sha256(network.module), "calibration": names}
        if _same_fit(out, settled) and (out / METHOD_FILE).exists():
            say(f"{out}: fitted before, kept")
            return {**read_record(out), "problems": read_record(out).get("problems", [])}
        fitting, problems = read_told(table, fitting_names, options.level, network.spec, options.resample)
        held, more = read_told(table, names, options.level, network.spec, options.resample)
        context = FitContext(None, options.seed, options.device, say)
        method = spec.fit(options.method, network, _pieces(fitting, network), _pieces(held, network), context)
        assessed = assess_told(method, table, tuple(held), options)
        record = {
            **calibration_record(method, assessed, options.target_risk, options.target_voxel_risk),
            "fitted_on": sorted(fitting),
            "calibrated_on": sorted(held),
            "options": asdict(options),
            "splits": parts.to_json(),
            "problems": [*problems, *more, *assessed.problems],
        }
        save_method(out, method, record)
        learnt = read_sentences(segmenter)
        if learnt is not None:
            write_sentences(out, learnt)
        manifest = Manifest("fit text_guided", asdict(options), options.seed)
        manifest.failures = list(record["problems"])
        manifest.write(out)
    return record


def _shared_out(table: TextTable, parts: Splits, seed: int) -> tuple[list[str], list[str]]:
    """Names of the cases that fit the temperature, and of those, of other patients, that calibrate the errors."""
    names = list(parts.calibration)
    patients = [table.cases[name].case.patient for name in names]
    if len(set(patients)) < 2:
        raise DatasetError(
            f"Calibration cases of {len(set(patients))} patients, expected at least two, as some fit the temperature "
            "and others the chance of error; write other splits."
        )
    fold = out_of_fold(patients, min(CALIBRATING_FOLDS, len(set(patients))), seed)
    chosen = list(zip(names, fold, strict=True))
    return [name for name, f in chosen if f != 0], [name for name, f in chosen if f == 0]


def _same_fit(out: Path, settled: Mapping[str, Any]) -> bool:
    path, content = out / FIT_FILE, json.loads(json.dumps(settled))
    begun = path.exists()
    before = read_json(path) if begun else content
    different = [name for name in content if before.get(name) != content[name]]
    if different:
        raise ConfigError(
            f"{out}: holds a fit with another {', '.join(different)}; choose another --out, or delete it."
        )
    write_json(path, content)
    return begun


def _pieces(told: Mapping[str, ToldSample], segmenter: FrozenSegmenter) -> list[Batch]:
    return [
        piece
        for case in told.values()
        for sample in case.samples
        for piece in pieces_of(sample, segmenter.spec, case.sentence)
    ]


def assess_told(
    method: Method, table: TextTable, names: Sequence[str], options: TextFitOptions
) -> Assessment:
    """Judge a fitted method and softmax entropy on cases with their sentences.

    Raises:
        InputError: not one case could be assessed.
    """
    entropy = get_method(BASELINE)
    baseline = entropy.build(entropy.config(), method.segmenter)
    assert isinstance(method.segmenter, FrozenSegmenter)
    done: list[AssessedCase] = []
    problems: list[str] = []
    for name in names:
        case, sentence = table.cases[name].case, table.sentence(name, options.level)
        try:
            image = read_image(case.images, name, options.resample)
            label = read_classes(case, image, method.segmenter.spec, options.resample)
            spacing = tuple(image.geometry.spacing) if image.geometry.dims == 3 else ()
            truth = Truth(name, case.patient, label, spacing=spacing)
            prompt = None if sentence is None else TextPrompt((sentence,))
            done.append(assess_image(method, baseline, image, truth, prompt))
        except SfumatoError as error:
            problems.append(str(error))
    if not done:
        raise InputError("No case could be assessed." + (f" The first: {problems[0]}" if problems else ""))
    return Assessment(tuple(done), tuple(problems))
