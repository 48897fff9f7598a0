"""The class prototypes of a run: fitted once on its training cases, kept in its work folder and in its reference."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...datasets import open_dataset
from ...errors import DatasetError, InputError
from ...methods.sample_difficulty.maps import Prototypes
from ...pipeline.slices import image_slices, label_slices
from ...segmenters.extractors import FeatureExtractor
from ...storage import read_json, write_json
from .case import seen_by_extractor
from .cases import ALL, ScoredCase, find_cases
from .config import ScoreConfig
from .reading import read_case


def prototypes_file(config: ScoreConfig) -> Path:
    """Where a run keeps its prototypes."""
    return config.work / "prototypes.json"


def prepare_prototypes(
    config: ScoreConfig,
    extractor: FeatureExtractor,
    stored: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Plain prototypes of a run whose maps need them, written to its work folder; empty otherwise.

    Args:
        config: of the run.
        extractor: whose features they are means of.
        stored: those of a reference, which are taken as they are; empty without one.
        say: receives lines for people.

    Raises:
        DatasetError: no training case with a label.
    """
    if config.maps != "prototype":
        return {}
    path = prototypes_file(config)
    if not stored and path.exists():
        return read_json(path)
    plain = dict(stored) or to_plain(_fit(config, extractor, say))
    config.work.mkdir(parents=True, exist_ok=True)
    write_json(path, plain)
    return plain


def to_plain(prototypes: Prototypes) -> dict[str, Any]:
    """Plain types for JSON, which keeps every digit of a float."""
    return {"names": list(prototypes.names)} | {k: a.tolist() for k, a in prototypes.to_arrays().items()}


def from_plain(content: Mapping[str, Any]) -> Prototypes:
    """The inverse of `to_plain`."""
    arrays = {name: np.array(content[name], np.float64) for name in ("sums", "weights")}
    return Prototypes.from_arrays(arrays, content["names"])


def digest(content: Mapping[str, Any]) -> str:
    """What tells the maps of two sets of prototypes apart; empty without any."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16] if content else ""


def _fit(config: ScoreConfig, extractor: FeatureExtractor, say: Callable[[str], None]) -> Prototypes:
    part = ALL if config.split == ALL else "train"
    found = find_cases(config.data, part, config.splits_file, config.patient_pattern)
    cases = [case for case in found if case.label is not None and case.split in ("train", "")]
    if not cases:
        raise DatasetError(
            f"{config.data}: no training case with a label, expected some for --maps prototype; choose other maps, or "
            "give a --reference that has prototypes."
        )
    say(f"Prototypes of the classes from {len(cases)} training cases.")
    values = _values(config, cases)
    return Prototypes.fit(_features(config, extractor, cases, list(values), say), tuple(values.values()))


def _values(config: ScoreConfig, cases: Sequence[ScoredCase]) -> dict[int, str]:
    """Label value -> name of the foreground classes: declared by the data set, else found in its labels."""
    if config.instances:
        return {1: "object"}
    declared = open_dataset(config.data, config.patient_pattern).label_values
    if declared:
        return {value: name for value, name in declared.items() if value != 0}
    seen: set[int] = set()
    for case in cases:
        label = read_case(case, config.resample).label
        seen |= set(np.unique(label.array).tolist()) if label is not None else set()
    if len(seen) > 256:
        raise DatasetError(
            f"{config.data}: {len(seen)} label values, expected classes; pass --instances if they number objects."
        )
    return {value: f"class {value}" for value in sorted(seen - {0})}


def _features(
    config: ScoreConfig,
    extractor: FeatureExtractor,
    cases: Sequence[ScoredCase],
    values: Sequence[int],
    say: Callable[[str], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and class numbers, slice by slice, of the cases that can be read; the others are said."""
    for case in cases:
        try:
            found = read_case(case, config.resample)
            if found.label is None:
                raise InputError(found.label_problem)
            stack = image_slices(seen_by_extractor(found.image, config.channel))
        except InputError as error:
            say(f"not among the prototypes: {error}")
            continue
        label = found.label.array > 0 if config.instances else found.label.array
        numbers = np.zeros(label.shape, np.int64)
        for number, value in enumerate(values, start=1):
            numbers[label == value] = number
        features = extractor.features(torch.from_numpy(stack.array))[extractor.card.main]
        yield features, torch.from_numpy(label_slices(numbers, stack.axis))
