"""`sfumato fit` on a network that reads sentences: labelled cases with sentences in, a fitted method folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...datasets import Case, Splits, TextTable, read_text_table
from ...datasets.splits import PATIENT_PATTERN
from ...errors import ConfigError, DatasetError, InputError, SfumatoError
from ...imaging import read_image
from ...interfaces import FitContext, Method, MethodSpec
from ...methods.text_guided.told_samples import ToldSample
from ...pipeline.pieces import pieces_of
from ...registry import get_method
from ...segmenters.pinned import weights_sha256
from ...segmenters.wrap import FrozenSegmenter
from ...storage import METHOD_FILE, config_from_plain, load_segmenter, read_record, save_method
from ...types import Batch, TextPrompt
from ..assess import BASELINE, AssessedCase, Assessment, assess_image, calibration_record
from ..files import locked
from ..fit_plan import FitOptions, check_networks, same_fit, shared_out
from ..judge import Truth
from ..manifest import Manifest
from .evaluate import recorded_splits
from .model import NAME, reads_sentences
from .samples import read_classes, read_told
from .sentences import read_sentences, write_sentences


@dataclass(frozen=True)
class TextFitOptions:
    """How a method is fitted on a network that reads sentences.

    Args:
        method: its name.
        settings: fields of the method's settings that differ from their defaults.
        level: of detail of the sentences, where there are several.
        fit: see `FitOptions`; masks are read in any way, so that its `instances` has no meaning.

    Raises:
        ConfigError: `instances`.
    """

    method: str = NAME
    settings: Mapping[str, Any] = field(default_factory=dict)
    level: str | None = None
    fit: FitOptions = field(default_factory=FitOptions)

    def __post_init__(self) -> None:
        if self.fit.instances:
            raise ConfigError(
                "instances for a network that reads sentences: masks of one object are read in any way, and of several "
                "classes by their values; leave it out."
            )


def fit_texts(
    segmenter: Path,
    data: Path,
    out: Path,
    options: TextFitOptions | None = None,
    splits: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    say: Callable[[str], None] = lambda line: None,
    network: FrozenSegmenter | None = None,
    networks: Sequence[FrozenSegmenter] = (),
) -> dict[str, Any]:
    """Fit a method on a trained network that reads, each case with its sentence; by default its own, `text_guided`.

    Two thirds of the calibration patients fit the score (of `text_guided` the temperature), the others calibrate it.

    Args:
        segmenter: folder of `train_texts`.
        data: folder or table, see `read_text_table`.
        out: gets what `save_method` writes, `sentences.json` and `manifest.json`.
        options: see `TextFitOptions`.
        splits: JSON file; those of the training by default.
        patient_pattern: see `read_text_table`.
        say: receives lines for people.
        network: of `segmenter`, where it is loaded already.
        networks: further frozen networks of the same task, for methods that run several.

    Returns:
        The record that is kept in `method.json`, and problems.

    Raises:
        DatasetError: calibration cases of fewer than two patients, or splits that are not known.
        ConfigError: a folder of another fit, or a network or a method that has no use for sentences.
        StorageError: damaged files of the segmenter.
    """
    table = read_text_table(data, patient_pattern)
    network = network or load_segmenter(segmenter)
    parts = table.dataset().splits(splits) if splits else recorded_splits(segmenter, table)
    record = fit_told(network, table, parts, out, options or TextFitOptions(), say, networks)
    learnt = read_sentences(segmenter)
    if learnt is not None:
        write_sentences(out, learnt)
    return record


def fit_told(
    network: FrozenSegmenter,
    table: TextTable,
    parts: Splits,
    out: Path,
    options: TextFitOptions,
    say: Callable[[str], None] = lambda line: None,
    networks: Sequence[FrozenSegmenter] = (),
) -> dict[str, Any]:
    """As `fit_texts`, with everything read already."""
    spec, fit = get_method(options.method), options.fit
    _check(spec, network, networks)
    config = config_from_plain(spec.config, options.settings)
    chosen, held = _two_parts(table, parts, spec, options, say)
    settled = {
        "method": spec.name,
        "settings": asdict(config),
        "level": options.level,
        "options": asdict(fit),
        "segmenter": weights_sha256(network.module),
        "networks": [weights_sha256(n.module) for n in networks],
        "fitting": [case.name for case in chosen],
        "calibration": [case.name for case in held],
    }
    with locked(out):
        if same_fit(out, settled) and (out / METHOD_FILE).exists():
            say(f"{out}: fitted before, kept")
            return read_record(out)
        fitting, problems = _read(network, table, chosen, options)
        calibrating, more = _read(network, table, held, options)
        context = FitContext(out / "fit", fit.seed, fit.device, say, tuple(networks))
        assert spec.fit is not None
        method = spec.fit(config, network, _pieces(fitting, network), _pieces(calibrating, network), context)
        assessed = assess_told(method, table, tuple(calibrating), options.level, fit.resample)
        record = {
            **calibration_record(method, assessed, fit.target_risk, fit.target_voxel_risk),
            "fitted_on": sorted(fitting),
            "calibrated_on": sorted(calibrating),
            "options": {"level": options.level, **asdict(fit)},
            "splits": parts.to_json(),
            "problems": [*problems, *more, *assessed.problems],
        }
        save_method(out, method, record)
        manifest = Manifest(f"fit {spec.name}", settled, fit.seed)
        manifest.failures = list(record["problems"])
        manifest.write(out)
    return record


def _two_parts(
    table: TextTable, parts: Splits, spec: MethodSpec, options: TextFitOptions, say: Callable[[str], None]
) -> tuple[Sequence[Case], Sequence[Case]]:
    """Cases that fit the score, and others that calibrate it."""
    chosen, held = shared_out(table.dataset(), parts, options.fit, spec.fits, say)
    if spec.fits and not chosen:
        raise DatasetError(
            "Calibration cases of one patient, expected at least two, as some fit the score and others calibrate it; "
            "write other splits."
        )
    return chosen, held


def _read(
    network: FrozenSegmenter, table: TextTable, cases: Sequence[Case], options: TextFitOptions
) -> tuple[dict[str, ToldSample], list[str]]:
    if not cases:
        return {}, []
    names = [case.name for case in cases]
    return read_told(table, names, options.level, network.spec, options.fit.resample)


def _check(spec: MethodSpec, network: FrozenSegmenter, networks: Sequence[FrozenSegmenter]) -> None:
    """Refuse what no sentence belongs to."""
    if not reads_sentences(network):
        raise ConfigError(
            f"fit {spec.name}: sentences for a network that reads none; leave them out, or train one that reads with "
            "`sfumato train --method text_guided`."
        )
    if spec.prompt not in (None, TextPrompt):
        raise ConfigError(
            f"{spec.name} runs on networks that are told a {spec.prompt.__name__}, not a sentence; fit another method, "
            "see `sfumato methods`."
        )
    check_networks(spec, networks)


def _pieces(told: Mapping[str, ToldSample], segmenter: FrozenSegmenter) -> list[Batch]:
    return [
        piece
        for case in told.values()
        for sample in case.samples
        for piece in pieces_of(sample, segmenter.spec, case.sentence)
    ]


def assess_told(
    method: Method, table: TextTable, names: Sequence[str], level: str | None = None, resample: bool = False
) -> Assessment:
    """Judge a fitted method and softmax entropy on cases with their sentences.

    Args:
        method: with a segmenter that reads sentences.
        table: that the cases are in.
        names: of the cases.
        level: of detail of the sentences, where there are several.
        resample: accept sheared or contradictory headers.

    Raises:
        InputError: not one case could be assessed.
    """
    entropy = get_method(BASELINE)
    baseline = entropy.build(entropy.config(), method.segmenter)
    assert isinstance(method.segmenter, FrozenSegmenter)
    done: list[AssessedCase] = []
    problems: list[str] = []
    for name in names:
        case, sentence = table.cases[name].case, table.sentence(name, level)
        try:
            image = read_image(case.images, name, resample)
            label = read_classes(case, image, method.segmenter.spec, resample)
            spacing = tuple(image.geometry.spacing) if image.geometry.dims == 3 else ()
            truth = Truth(name, case.patient, label, spacing=spacing)
            prompt = None if sentence is None else TextPrompt((sentence,))
            done.append(assess_image(method, baseline, image, truth, prompt))
        except SfumatoError as error:
            problems.append(str(error))
    if not done:
        raise InputError("No case could be assessed." + (f" The first: {problems[0]}" if problems else ""))
    return Assessment(tuple(done), tuple(problems))
