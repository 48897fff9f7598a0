"""What to score, with what, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...datasets.splits import PATIENT_PATTERN
from ...errors import ConfigError, UnknownNameError
from .cases import ALL

MAPS = ("energy", "principal", "prototype", "logits")
CONVENTIONS = ("energy", "amplitude")
RANGES = ("minmax", "percentile")
ENGINES = ("local", "ray")
AGGREGATES = ("sum", "mean_present", "min")


@dataclass(frozen=True)
class ScoreConfig:
    """Settings of `sfumato difficulty score`.

    Args:
        data: data set folder, or a folder of images.
        out: the index, a Parquet file.
        extractor: name for `sfumato.segmenters.extractors.load_extractor`.
        extractor_options: of that extractor, such as `side`.
        maps: `energy`, `principal`, `prototype` or `logits`: what becomes the matrix whose spectrum is taken.
        convention: `energy` (squared singular values, as the paper says) or `amplitude`.
        aggregate: of the class scales: `sum`, `mean_present`, `min`, or class names separated by commas.
        range_method: AUV is measured between the extreme scales (`minmax`) or their 1st and 99th `percentile`.
        segmenters: folders of segmenters, for what depends on the label.
        copies: training cases of which damaged copies are described too, to learn what damage looks like; 0 for none.
        channel: that the extractor sees; pictures of three channels are seen in colour.
        instances: label files number objects; every value above 0 is foreground.
        split: which cases, see `find_cases`.
        splits_file: names the splits.
        patient_pattern: tells patients apart.
        resample: accept sheared or contradictory headers.
        thumbnails: keep a small picture of each case.
        reference: an earlier index's reference; its range and its descriptors replace those of this data set.
        engine: `local` or `ray`.
        workers: threads that read ahead (local), or actors that score (ray).
        shard_size: cases that are written at once; a killed run loses at most one such shard for each worker.
        threads: processor threads of one scorer; 0 takes all.
        device: of the extractor and the segmenters.
        allow_pickle: read pickled weights.
        retry: do the cases again that failed.
    """

    data: Path
    out: Path
    extractor: str = "efficientnet_lite0"
    extractor_options: Mapping[str, Any] = field(default_factory=dict)
    maps: Literal["energy", "principal", "prototype", "logits"] = "energy"
    convention: Literal["energy", "amplitude"] = "energy"
    aggregate: str = "sum"
    range_method: Literal["minmax", "percentile"] = "minmax"
    segmenters: tuple[Path, ...] = ()
    copies: int = 50
    channel: int = 0
    instances: bool = False
    split: str = ALL
    splits_file: Path | None = None
    patient_pattern: str = PATIENT_PATTERN
    resample: bool = False
    thumbnails: bool = True
    reference: Path | None = None
    engine: Literal["local", "ray"] = "local"
    workers: int = 2
    shard_size: int = 64
    threads: int = 0
    device: str = "cpu"
    allow_pickle: bool = False
    retry: bool = False

    def __post_init__(self):
        for kind, value, known in (
            ("kind of map", self.maps, MAPS),
            ("convention", self.convention, CONVENTIONS),
            ("range", self.range_method, RANGES),
            ("engine", self.engine, ENGINES),
        ):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        for name, value, least in (
            ("--workers", self.workers, 1),
            ("--shard-size", self.shard_size, 1),
            ("--threads", self.threads, 0),
            ("--channel", self.channel, 0),
            ("--copies", self.copies, 0),
        ):
            if value < least:
                raise ConfigError(f"{name} {value}, expected at least {least}.")
        if self.out.suffix != ".parquet":
            raise ConfigError(f"--out {self.out}: expected a name ending in .parquet.")

    @property
    def work(self) -> Path:
        """Folder of the finished shards, beside the index."""
        return self.out.with_name(self.out.name + ".parts")

    @property
    def written_reference(self) -> Path:
        """The reference that is written beside the index."""
        return self.out.with_suffix(".reference.safetensors")

    def settings(self, extractor: str, segmenters: list[str], prototypes: str) -> Mapping[str, Any]:
        """What the stored rows depend on; convention, aggregate and reference are applied when the index is made."""
        return {
            "data": str(self.data.resolve()),
            "extractor": extractor,
            "maps": self.maps,
            "prototypes": prototypes,
            "segmenters": segmenters,
            "copies": self.copies,
            "channel": self.channel,
            "instances": self.instances,
            "patient": self.patient_pattern,
            "resample": self.resample,
            "thumbnails": self.thumbnails,
        }


def parse_aggregate(text: str) -> str | tuple[str, ...]:
    """`sum`, `mean_present` or `min`, else class names.

    Example:
        >>> parse_aggregate("min"), parse_aggregate("liver, tumour")
        ('min', ('liver', 'tumour'))
    """
    if text in AGGREGATES:
        return text
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigError(
            f"--aggregate {text!r}, expected {', '.join(AGGREGATES)}, or class names by commas."
        )
    return names
