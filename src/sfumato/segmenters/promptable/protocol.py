"""What a promptable segmenter is: a plane is encoded once, and any number of prompts is decoded from the embedding.

The embedding is a value that the caller holds, never hidden state: it may be stored, sent away and used later, by any
instance of the same network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...types import SpatialPrompt
from .frame import Frame

HYPOTHESES = 3
"""Masks that every network of the family offers for one prompt."""


@dataclass(frozen=True)
class PromptableCard:
    """Which network answers, so that embeddings and tokens of two networks are never mixed.

    Args:
        name: as `load_promptable` takes it.
        weights: SHA-256 of the weights, hexadecimal.
        family: `sam` or `sam2`: whose tokens these are.
        side: of the network's square input in pixels; longer side of the plane.
        licence: of the weights, or `unknown`.

    Example:
        >>> PromptableCard("toy", "ab" * 32, "sam", 1024).key
        'toy/abababababababab/sam/side=1024'
    """

    name: str
    weights: str
    family: Literal["sam", "sam2"]
    side: int
    licence: str = "unknown"

    @property
    def key(self) -> str:
        """One line that is equal for two networks only if their embeddings and tokens mean the same."""
        return f"{self.name}/{self.weights[:16]}/{self.family}/side={self.side}"


@dataclass(frozen=True)
class Embedding:
    """What a network keeps of one plane.

    Args:
        maps: `image` (width, rows, columns), which the decoder attends to, and whatever else it needs, by name.
        frame: where the plane lies in the network's input.
        network: `PromptableCard.key` of the network that made it.
    """

    maps: Mapping[str, Float[Tensor, "feature_width rows columns"]]
    frame: Frame
    network: str


@dataclass(frozen=True)
class Decoded:
    """Answers to prompts, one row per prompt. Hypothesis j comes from mask token j + 1; token 0 is the single mask's.

    Args:
        logits: of the three hypotheses on the network's mask grid, padding included.
        estimates: the network's own estimate of each hypothesis' IoU, the SamScore; some networks leave [0, 1].
        iou_token: after the decoder's last normalisation.
        mask_tokens: m0 to m3, likewise.
        frame: where the plane lies in the masks.
        object_score: log-odds that there is an object at all; None in networks without it.
        single_logits: the single mask that m0 makes; None where the network does not give it beside the others.
        single_estimates: its estimated IoU.
    """

    logits: Float[Tensor, "prompts hypotheses rows columns"]
    estimates: Float[Tensor, "prompts hypotheses"]
    iou_token: Float[Tensor, "prompts token_width"]
    mask_tokens: Float[Tensor, "prompts 4 token_width"]
    frame: Frame
    object_score: Float[Tensor, "prompts"] | None = None
    single_logits: Float[Tensor, "prompts rows columns"] | None = None
    single_estimates: Float[Tensor, "prompts"] | None = None

    def own_pick(self) -> Tensor:
        """(prompts,): the hypothesis that the network itself ranks first; the first of equals."""
        return self.estimates.argmax(dim=1)

    def own_logits(self) -> Float[Tensor, "prompts rows columns"]:
        """Logits of the hypothesis that the network itself ranks first."""
        return self.logits[torch.arange(len(self.logits)), self.own_pick()]

    def plane_logits(self) -> Float[Tensor, "prompts hypotheses height width"]:
        """Logits at the plane's own pixels, bilinear."""
        return self.frame.to_plane(self.logits)

    def masks(self) -> Bool[Tensor, "prompts hypotheses height width"]:
        """Where the plane's logits are above 0."""
        return self.plane_logits() > 0


@runtime_checkable
class PromptableSegmenter(Protocol):
    """A frozen network that encodes a plane once and answers prompts with masks. It scales and normalises itself."""

    @property
    def card(self) -> PromptableCard:
        """Which network this is."""
        ...

    def encode(self, plane: Float[Tensor, "channels height width"]) -> Embedding:
        """Without gradient.

        Args:
            plane: intensities in [0, 1], one channel or three.

        Raises:
            InputError: other shapes, other ranges, or values that are not finite.
        """
        ...

    def decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        """Answers to any number of prompts at once, without gradient; a row does not depend on the others.

        Raises:
            InputError: an embedding of another network, no rows, or a row with neither click, box nor mask.
        """
        ...
