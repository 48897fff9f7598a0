"""What a frozen feature extractor is: slices in, feature maps out, and a card that says which network it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class ExtractorCard:
    """Which network gave the features, so that numbers of two networks are never mixed.

    Args:
        name: as `load_extractor` takes it.
        weights: SHA-256 of the weights, hexadecimal; of the file, or of the tensors where there is no file.
        licence: of the weights, or `unknown`.
        kind: `dense` (class-agnostic features), `promptable`, or `segmenter` (its logits are among the features).
        main: the feature map that class-wise maps are made of.
        settings: how images become the network's input, as text.

    Example:
        >>> ExtractorCard("toy", "ab" * 32, "MIT", "dense", "stride8", "side=224").key
        'toy/abababababababab/stride8/side=224'
    """

    name: str
    weights: str
    licence: str
    kind: Literal["dense", "promptable", "segmenter"]
    main: str
    settings: str = ""

    @property
    def key(self) -> str:
        """One line that is equal for two extractors only if they give the same features."""
        return "/".join((self.name, self.weights[:16], self.main, self.settings))


@runtime_checkable
class FeatureExtractor(Protocol):
    """A frozen network as a source of features. It resizes and normalises by itself."""

    @property
    def card(self) -> ExtractorCard:
        """Which network this is."""
        ...

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices feature_width rows columns"]]:
        """Feature maps by name, fine to coarse, float32 on the CPU, without gradient.

        Slices do not see each other: the features of a batch are those of its slices.

        Args:
            slices: intensities in [0, 1], one channel or three, all of one size.

        Raises:
            InputError: other shapes, other ranges, or values that are not finite.
        """
        ...
