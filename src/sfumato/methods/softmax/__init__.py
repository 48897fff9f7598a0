"""Doubt read off the softmax alone: entropy and 1 - maximum probability. The baseline everybody has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...measures.entropy import entropy, maximum_probability_doubt
from ...types import Batch, Kind, Segmentation, Uncertainty


@dataclass(frozen=True)
class SoftmaxConfig:
    """Nothing to set."""


class SoftmaxEstimator(nn.Module):
    """Entropy (nats) as PREDICTIVE, 1 - maximum probability as ERROR, from the raw logits."""

    def respond(self, batch: Batch, segmentation: Segmentation) -> Mapping[str, Tensor]:
        """Nothing but the logits is needed."""
        return {}

    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """Both maps, voxel by voxel."""
        probability = segmentation.probability()
        return Uncertainty(
            {Kind.PREDICTIVE: entropy(probability), Kind.ERROR: maximum_probability_doubt(probability)}
        )


def build(config: SoftmaxConfig, segmenter: Segmenter) -> Method:
    """There is nothing to load."""
    return Method(METHOD, config, segmenter, SoftmaxEstimator().eval())


def fit(
    config: SoftmaxConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """There is nothing to fit."""
    return build(config, segmenter)


METHOD = MethodSpec(
    name="softmax",
    title="Entropy and 1 - maximum probability of the segmenter's own softmax",
    paper="Hendrycks and Gimpel, ICLR 2017, arXiv 1610.02136",
    maps=(Kind.PREDICTIVE, Kind.ERROR),
    scores=(Kind.PREDICTIVE, Kind.ERROR),
    ranks_by=Kind.PREDICTIVE,
    config=SoftmaxConfig,
    tiny=SoftmaxConfig(),
    build=build,
    fit=fit,
    fits=False,
)
