"""From an extractor's features to the class maps whose spectra are taken, by the kind of maps a run asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ...errors import ConfigError
from ...methods.sample_difficulty.maps import Prototypes, energy_maps, logit_maps, principal_maps
from ...segmenters.extractors import FeatureExtractor, SegmenterExtractor

WHOLE = "image"
"""Name of the one map of kinds that know no classes."""


@dataclass(frozen=True)
class ClassMaps:
    """A kind of class maps.

    Args:
        kind: `energy`, `principal`, `prototype` or `logits`.
        feature: name of the feature map they are made of.
        names: of the classes.
        prototypes: for `prototype`.
    """

    kind: str
    feature: str
    names: tuple[str, ...] = (WHOLE,)
    prototypes: Prototypes | None = None

    @classmethod
    def open(cls, kind: str, extractor: FeatureExtractor, prototypes: Prototypes | None = None) -> ClassMaps:
        """The maps a run asks for, of what its extractor gives.

        Raises:
            ConfigError: logits of an extractor that has none.
        """
        if kind == "prototype" and prototypes is not None:
            return cls(kind, extractor.card.main, prototypes.names, prototypes)
        if kind != "logits":
            return cls(kind, extractor.card.main)
        if not isinstance(extractor, SegmenterExtractor):
            raise ConfigError(
                f"--maps logits with {extractor.card.name}, which has none; give --extractor segmenter:FOLDER, or "
                "choose other maps."
            )
        return cls(kind, "logits", tuple(extractor.segmenter.spec.classes[1:]))

    def of(self, features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Maps (classes, slices, rows, columns), and in which slices each class was looked at (classes, slices)."""
        found = features[self.feature]
        if self.kind == "prototype" and self.prototypes is not None:
            return self.prototypes.maps(found)
        make = {"energy": energy_maps, "principal": principal_maps, "logits": logit_maps}[self.kind]
        return make(found)
