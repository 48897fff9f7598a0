"""`sfumato train --method text_guided`: images, masks and sentences in, a trained segmenter folder out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import TextTable, read_text_table
from ...datasets.splits import PATIENT_PATTERN, out_of_fold
from ...datasets.text_variants import swap_sides
from ...errors import ConfigError, DatasetError
from ...imaging import read_image
from ...methods.text_guided.config import TextGuidedConfig
from ...methods.text_guided.segmenter import make_segmenter
from ...methods.text_guided.text_encoder import build_text_encoder
from ...methods.text_guided.told_samples import ToldSample
from ...methods.text_guided.training import TextTraining, build_network, told_validation, train_network
from ...methods.text_guided.training_text import TrainingText
from ...segmenters.spec import Preprocessing, SegmenterSpec
from ...storage import save_segmenter
from ..files import locked
from ..fit_plan import begun_alike
from .samples import choose_splits, read_told
from .sentences import learn_sentences, write_sentences

TRAIN_FILE = "train.json"


@dataclass(frozen=True)
class TextTrainConfig:
    """What to train, on what, and how.

    Args:
        network: how the network is built; its channels and classes are read off the data.
        training: how it is trained.
        level: of detail of the sentences, where there are several.
        classes: names of the foreground classes, where the data set does not declare them.
        validation: share of the training patients kept for choosing the epoch; 0 keeps none.
        mirror: show each training picture mirrored too, with left and right exchanged in its sentence.
        resample: accept sheared or contradictory headers.
        preprocessing: how intensities become network input.
    """

    network: TextGuidedConfig = field(default_factory=TextGuidedConfig)
    training: TextTraining = field(default_factory=TextTraining)
    level: str | None = None
    classes: tuple[str, ...] = ()
    validation: float = 0.2
    mirror: bool = False
    resample: bool = False
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise ConfigError(f"validation={self.validation}, expected a share from 0 to below 1.")


def train_texts(
    data: Path,
    out: Path,
    config: TextTrainConfig,
    splits: Path | None = None,
    patient_pattern: str = PATIENT_PATTERN,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Train on the training split; `out` gets `segmenter.json`, weights, `sentences.json`, splits, checkpoint and log.

    A killed run is resumed by the same call, to the same weights.

    Args:
        data: folder or table, see `read_text_table`.
        out: folder.
        config: see `TextTrainConfig`.
        splits: JSON file; without one see `choose_splits`.
        patient_pattern: see `read_text_table`.
        say: receives lines for people.

    Returns:
        The validation scores and what was left out.

    Raises:
        DatasetError: a table or splits that cannot be used, or all training cases of one patient.
        ConfigError: a folder of a run with other settings.
    """
    table = read_text_table(data, patient_pattern)
    with locked(out):
        parts = choose_splits(table, splits, config.level, config.training.trainer.seed, say)
        begun_alike(out / TRAIN_FILE, asdict(config) | {"splits": parts.to_json()}, "run")
        spec, network_config = describe(table, parts.train, config)
        told, problems = read_told(table, parts.train, config.level, spec, config.resample)
        fitting, validation = _hold_out(told, config)
        if config.mirror:
            fitting += [mirrored(case) for case in fitting]
        encoder = build_text_encoder(network_config.text_encoder, network_config.text_length)
        network = build_network(network_config, encoder, config.training.trainer.seed)
        network = train_network(network, fitting, validation, encoder, config.training, out)
        segmenter = make_segmenter(
            network, encoder, spec.classes, spec.label_values, config.training.side, config.preprocessing
        )
        scores = (
            dict(told_validation(validation, encoder, config.training.side)(network)) if validation else {}
        )
        record = {
            "config": asdict(config),
            "cases": len(fitting),
            "validation_cases": [case.samples[0].case or case.samples[0].name for case in validation],
            "validation": scores,
            "splits": parts.to_json(),
        }
        save_segmenter(out, segmenter.module, segmenter.spec, record)
        write_sentences(out, _learnt(table, tuple(told), config.level, spec))
    return {"validation": scores, "problems": [*table.problems, *problems]}


def describe(
    table: TextTable, names: Sequence[str], config: TextTrainConfig
) -> tuple[SegmenterSpec, TextGuidedConfig]:
    """Classes and channels of a data set, as a passport for reading it, and the network's settings with them.

    Raises:
        DatasetError: no training case.
        ConfigError: another number of class names than of classes.
    """
    if not names:
        raise DatasetError("The training split is empty, expected at least one case; write a splits.json.")
    declared = dict(table.label_values) or {0: "background", 1: "object"}
    if config.classes and len(config.classes) != len(declared) - 1:
        raise ConfigError(
            f"{len(config.classes)} class names {config.classes}, expected {len(declared) - 1}, one for each label "
            "value above the background."
        )
    classes = ("background", *config.classes) if config.classes else tuple(declared.values())
    first = read_image(table.cases[names[0]].case.images, names[0], config.resample)
    # Pictures may be grey here and coloured there, and are all shown in three channels.
    channels = 3 if first.geometry.dims == 2 and len(first.array) in (1, 3) else len(first.array)
    network = replace(config.network, channels=channels, classes=1 if len(classes) == 2 else len(classes))
    spec = SegmenterSpec(
        source="",
        spatial_dims=2,
        channels=channels,
        classes=classes,
        label_values=tuple(declared),
        window=(1, 1),
        preprocessing=config.preprocessing,
    )
    return spec, network


def mirrored(told: ToldSample) -> ToldSample:
    """The mirror image of a picture, with left and right exchanged in its sentence, so that the sentence is true.

    Raises:
        ConfigError: a volume, in whose slices left and right are not always along the columns.
    """
    sample, *slices = told.samples
    if slices or sample.case:
        raise ConfigError(f"{sample.case}: a volume with mirror, expected pictures; leave mirror out.")
    image, label = (np.ascontiguousarray(values[..., ::-1]) for values in (sample.image, sample.label))
    sentence = None if told.sentence is None else swap_sides(told.sentence)
    return ToldSample((replace(sample, image=image, label=label, name=f"{sample.name} mirrored"),), sentence)


def _hold_out(
    told: Mapping[str, ToldSample], config: TextTrainConfig
) -> tuple[list[ToldSample], list[ToldSample]]:
    """Cases to train on, and others, of other patients, that choose the epoch."""
    cases = list(told.values())
    if config.validation == 0:
        return cases, []
    folds = max(2, round(1 / config.validation))
    patients = [case.samples[0].patient for case in cases]
    fold = out_of_fold(patients, folds, config.training.trainer.seed)
    fitting = [case for case, f in zip(cases, fold, strict=True) if f]
    if not fitting:
        raise DatasetError("All training cases are of one patient; add others, or pass --validation 0.")
    return fitting, [case for case, f in zip(cases, fold, strict=True) if not f]


def _learnt(table: TextTable, names: Sequence[str], level: str | None, spec: SegmenterSpec) -> TrainingText:
    """Words of the training cases; sizes too, where masks are of one object."""
    if len(spec.classes) == 2:
        return learn_sentences(table, names, level)
    return TrainingText.of([(table.sentence(name, level), {}, 0.0) for name in names])
