"""The scorer of a run, made anew in every process that scores."""

from __future__ import annotations

import torch

from ...segmenters.extractors import FeatureExtractor, load_extractor
from ...storage import read_json
from .case import CaseScorer
from .class_maps import ClassMaps
from .config import ScoreConfig
from .out_of_fold import OutOfFold
from .prototypes import from_plain, prototypes_file


def open_scorer(config: ScoreConfig, extractor: FeatureExtractor | None = None) -> CaseScorer:
    """Load the extractor, the segmenters and, where maps need them, the run's prototypes."""
    if config.threads:
        torch.set_num_threads(config.threads)
    extractor = extractor or open_extractor(config)
    segmenters = None
    if config.segmenters:
        segmenters = OutOfFold.open(
            config.segmenters, config.patient_pattern, config.allow_pickle, config.device
        )
    prototypes = from_plain(read_json(prototypes_file(config))) if config.maps == "prototype" else None
    maps = ClassMaps.open(config.maps, extractor, prototypes)
    return CaseScorer(
        extractor,
        maps,
        segmenters,
        config.data,
        config.channel,
        config.instances,
        config.thumbnails,
    )


def open_extractor(config: ScoreConfig) -> FeatureExtractor:
    """The extractor of a run."""
    return load_extractor(
        config.extractor, config.device, config.allow_pickle, **dict(config.extractor_options)
    )
