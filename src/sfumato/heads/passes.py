"""Estimators that run a network several times and look at where the passes disagree: what they share.

From M probabilities p_m of the same voxels: PREDICTIVE = H(mean p), ALEATORIC = mean H(p_m), EPISTEMIC = their
difference, the mutual information, ERROR = 1 - mean p of the segmenter's label; and the case score ERROR = 1 - Dice
between pairs of passes (see `sfumato.measures.passes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..errors import InputError
from ..measures.entropy import entropy
from ..measures.passes import (
    NAMES,
    Passes,
    label_doubt,
    mutual_information,
    pairwise_dice,
    responses_of,
    vote_sums,
)
from ..types import Batch, Kind, Segmentation, Uncertainty

KINDS = (Kind.PREDICTIVE, Kind.ALEATORIC, Kind.EPISTEMIC, Kind.ERROR)
"""What a `PassesEstimator` fills, as maps and as case scores."""


class PassSource(nn.Module):
    """Where the passes come from: an interface, never made itself. Everything fitted is a buffer of it."""

    @property
    def sample_count(self) -> int:
        """Probabilities that are averaged, M."""
        raise NotImplementedError

    @property
    def pass_count(self) -> int:
        """Forward passes per image, the segmenter's own included."""
        raise NotImplementedError

    def probabilities(
        self, batch: Batch, segmentation: Segmentation
    ) -> Iterator[Float[Tensor, "batch classes *grid"]]:
        """One probability of all classes after the other, on the segmentation's grid."""
        raise NotImplementedError


class PassesEstimator(nn.Module):
    """Reduces the passes of a source to running means, and those to maps and a case score.

    Memory does not grow with the number of passes.

    Args:
        source: gives the passes.

    Example:
        >>> from sfumato.types import Link
        >>> class Two(PassSource):
        ...     sample_count = pass_count = 2
        ...     def probabilities(self, batch, segmentation):
        ...         yield torch.tensor([[[0.9], [0.1]]])
        ...         yield torch.tensor([[[0.3], [0.7]]])
        >>> estimator, batch = PassesEstimator(Two()), Batch(torch.zeros(1, 1, 1))
        >>> segmentation = Segmentation(torch.tensor([[[1.0], [0.0]]]), Link.SOFTMAX)
        >>> found = Segmentation(segmentation.logits, Link.SOFTMAX, estimator.respond(batch, segmentation))
        >>> round(estimator.estimate(batch, found).maps[Kind.ERROR].item(), 3)  # 1 - (0.9 + 0.3) / 2
        0.4
    """

    def __init__(self, source: PassSource):
        super().__init__()
        self.source = source

    @property
    def pass_count(self) -> int:
        """Forward passes per image, the segmenter's own included."""
        return self.source.pass_count

    @torch.no_grad()
    def respond(
        self, batch: Batch, segmentation: Segmentation
    ) -> dict[str, Float[Tensor, "batch maps *grid"]]:
        """The running means of `sfumato.measures.passes.Passes`: linear, so they may be averaged over windows."""
        passes = Passes()
        for probability in self.source.probabilities(batch, segmentation):
            passes.add(probability)
        return passes.responses()

    @torch.no_grad()
    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """All maps, and the mean probability as the method's own.

        Raises:
            InputError: the responses are not there.
        """
        mean, expected_entropy, _ = responses_of(_responses(segmentation))
        return Uncertainty(
            {
                Kind.PREDICTIVE: entropy(mean),
                Kind.ALEATORIC: expected_entropy[:, 0].clamp_min(0.0),
                Kind.EPISTEMIC: mutual_information(mean, expected_entropy),
                Kind.ERROR: label_doubt(mean, segmentation.labels()),
            },
            probability=mean,
        )

    @torch.no_grad()
    def case_sums(self, batch: Batch, segmentation: Segmentation) -> Float[Tensor, "batch sums"]:
        """What the Dice between passes needs of a piece of a grid, see `measures.passes.vote_sums`.

        Raises:
            InputError: the responses are not there.
        """
        return vote_sums(_responses(segmentation)["votes"], self.source.sample_count)

    def case_scores(self, sums: Float[Tensor, "batch sums"]) -> dict[Kind, Float[Tensor, "batch"]]:
        """ERROR = 1 - Dice between pairs of passes, in [0, 1]; 0 for a single pass, or where nothing was found."""
        return {Kind.ERROR: 1 - pairwise_dice(sums, self.source.sample_count)}


def _responses(segmentation: Segmentation) -> Mapping[str, Tensor]:
    missing = [name for name in NAMES if name not in segmentation.features]
    if missing:
        raise InputError(
            f"The segmentation carries no {', '.join(missing)}, expected the responses of respond(); call it first."
        )
    return segmentation.features
