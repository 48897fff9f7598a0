"""Doubt about a segmentation by a sentence: from its calibrated probability, and from what other sentences do to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError, InputError
from ...heads.error_table import ErrorTable
from ...measures.entropy import entropy, maximum_probability_doubt
from ...segmenters.frozen import FrozenSegmenter
from ...types import Batch, Kind, Segmentation, TextPrompt, Uncertainty, is_missing
from .sensitivity import text_sensitivity


@dataclass(frozen=True)
class TextDoubtConfig:
    """What a segmentation by its sentence is compared with.

    Args:
        sentences: that each image is also segmented with, such as one that names the object and nothing else. No
            sentence at all is always compared with.

    Raises:
        ConfigError: an empty sentence.
    """

    sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sentences", tuple(self.sentences))  # JSON gives lists
        if any(is_missing(sentence) for sentence in self.sentences):
            raise ConfigError(
                f"sentences={self.sentences}, expected some that say something; no sentence is always compared with."
            )


class TextDoubt(nn.Module):
    """Entropy, chance of error, and what of a mask hangs on its words.

    Everything is computed from probabilities at one fitted temperature. Before the fit that is 1, and the chance of
    error is 1 - the largest probability.

    Args:
        config: see `TextDoubtConfig`.
        segmenter: reads sentences.
    """

    temperature: Tensor

    def __init__(self, config: TextDoubtConfig, segmenter: FrozenSegmenter):
        super().__init__()
        self.config, self.segmenter = config, segmenter
        self.register_buffer("temperature", torch.tensor(1.0))
        self.table = ErrorTable()

    @property
    def pass_count(self) -> int:
        """Forward passes per image, the segmenter's own included."""
        return 2 + len(self.config.sentences)

    @torch.no_grad()
    def respond(
        self, batch: Batch, segmentation: Segmentation
    ) -> Mapping[str, Float[Tensor, "batch maps *grid"]]:
        """`variants`: logits without a sentence and with each of the config's, one after the other."""
        rows = len(batch.image)
        said = batch.prompt is not None
        variants = [self.segmenter.segment(replace(batch, prompt=None)) if said else segmentation]
        for sentence in self.config.sentences:
            prompt = TextPrompt((sentence,) * rows)
            variants.append(self.segmenter.segment(replace(batch, prompt=prompt)))
        return {"variants": torch.cat([variant.logits for variant in variants], dim=1)}

    @torch.no_grad()
    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """All three maps.

        PREDICTIVE = H(p), nats. PROMPT = mean over the variants of half of sum_c |p_c - q_c|, p with the sentence and q
        with the variant: what of the probability hangs on the words, in [0, 1]. ERROR = the table's chance that the
        label is wrong, in [0, 1]: that of an image with its own sentence, so it holds for sentences like those that
        were calibrated on and not for wrong ones.

        Raises:
            InputError: the responses are not there.
        """
        if "variants" not in segmentation.features:
            raise InputError(
                "The segmentation carries no variants, expected the responses of respond(); call it first."
            )
        temperature = self.temperature.expand_as(segmentation.logits[:, 0])
        probability = segmentation.probability(temperature)
        channels = segmentation.logits.shape[1]
        variants = [
            replace(segmentation, logits=logits).probability(temperature)
            for logits in segmentation.features["variants"].split(channels, dim=1)
        ]
        maps = {
            Kind.PREDICTIVE: entropy(probability),
            Kind.PROMPT: text_sensitivity(probability, variants).shift,
            Kind.ERROR: self.table(maximum_probability_doubt(probability)),
        }
        return Uncertainty(maps, temperature=temperature)
