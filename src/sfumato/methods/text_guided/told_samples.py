"""Prepared images with what was written about them, and the states of their sentences by number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F

from ...training.samples import Sample
from .segmenter import scaled
from .text_cache import TextFeatures
from .text_encoder import TextEncoder


@dataclass(frozen=True)
class ToldSample:
    """A prepared picture, or the slices of a volume, and what was written about it.

    Args:
        samples: one, or one per slice; all slices share the sentence.
        sentence: None where the text is missing.
    """

    samples: tuple[Sample, ...]
    sentence: str | None


def scaled_sample(sample: Sample, side: int) -> Sample:
    """Image and label at side x side pixels: the image as `WholeImageNetwork` scales it, of the label the nearest.

    Example:
        >>> sample = Sample(np.zeros((3, 50, 80), np.float32), np.ones((50, 80), np.int16), "a", "a")
        >>> small = scaled_sample(sample, 32)
        >>> small.image.shape, small.label.shape, int(small.label.min())
        ((3, 32, 32), (32, 32), 1)
    """
    image = scaled(torch.from_numpy(np.ascontiguousarray(sample.image)).unsqueeze(0), (side, side))
    label = torch.from_numpy(sample.label.astype(np.float32))[None, None]
    nearest = F.interpolate(label, size=(side, side), mode="nearest-exact")[0, 0].numpy()
    return replace(sample, image=image[0].numpy(), label=nearest.astype(sample.label.dtype))


class SentenceTable:
    """States of the distinct sentences of cases, looked up by the case's number.

    Args:
        sentences: one per case; None where it is missing.
        encoder: that is asked once per distinct sentence.
    """

    def __init__(self, sentences: Sequence[str | None], encoder: TextEncoder):
        distinct = list(dict.fromkeys(sentences))
        self.features: TextFeatures = encoder.encode(distinct)
        self.row = torch.tensor([distinct.index(sentence) for sentence in sentences])

    def of(self, index: Int[Tensor, "batch"]) -> dict[str, Tensor]:
        """Keyword arguments of `TextGuidedNetwork.forward` for cases by number, on the device of the numbers."""
        found = self.features.rows(self.row[index.cpu()].tolist())
        told = {"text": found.states, "keep": found.keep, "present": found.present}
        return {name: value.to(index.device) for name, value in told.items()}
