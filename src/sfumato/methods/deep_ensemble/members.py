"""The members of an ensemble: networks that answer the same question about the same image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError, InputError
from ...heads.passes import PassSource
from ...segmenters.frozen import FrozenSegmenter
from ...types import Batch, Segmentation

SAME = ("spatial_dims", "channels", "classes", "link", "preprocessing")
"""What a member must share with the segmenter: it gets the image as the segmenter wants it."""


class Members(PassSource):
    """One pass of each distinct network.

    Args:
        segmenter: the network whose labels count; its pass is there already.
        networks: further ones.
        with_segmenter: whether the segmenter itself is a member.

    Raises:
        InputError: a network that is not wrapped.
        ConfigError: a member of another task, or fewer than two distinct members.
    """

    def __init__(self, segmenter: FrozenSegmenter, networks: Sequence[object], with_segmenter: bool):
        super().__init__()
        self.segmenter = segmenter
        self.networks: list[FrozenSegmenter] = []
        self.shares_pass = with_segmenter
        for number, network in enumerate(networks, 1):
            member = _checked(network, number, segmenter)
            if same_weights(member, segmenter):
                self.shares_pass = True
            elif not any(same_weights(member, other) for other in self.networks):
                self.networks.append(member)
        if self.sample_count < 2:
            raise ConfigError(
                f"deep_ensemble has {self.sample_count} distinct member, expected at least 2; give further networks "
                "trained with other seeds."
            )

    @property
    def sample_count(self) -> int:
        """Distinct members."""
        return len(self.networks) + int(self.shares_pass)

    @property
    def pass_count(self) -> int:
        """The segmenter's pass, member or not, and one of each other member."""
        return len(self.networks) + 1

    def probabilities(
        self, batch: Batch, segmentation: Segmentation
    ) -> Iterator[Float[Tensor, "batch classes *grid"]]:
        """One member's probability after the other."""
        if self.shares_pass:
            yield segmentation.probability()
        for network in self.networks:
            network.to(segmentation.logits.device)
            yield padded_probability(network, batch)


def padded_probability(network: FrozenSegmenter, batch: Batch) -> Float[Tensor, "batch classes *grid"]:
    """A network's probability of a batch with its prompt, also where its divisor does not divide the sides.

    They are padded at their ends with zeros, as the pipeline pads windows.
    """
    image = batch.image
    sides = image.shape[2:]
    extra = [-n % d for n, d in zip(sides, network.spec.divisors, strict=True)]
    padded = F.pad(image, [p for e in reversed(extra) for p in (0, e)]) if any(extra) else image
    probability = network.segment(Batch(padded, batch.prompt)).probability()
    return probability[(..., *(slice(n) for n in sides))]


def same_weights(one: FrozenSegmenter, other: FrozenSegmenter) -> bool:
    """Whether two networks hold the very same tensors under the same names."""
    if one.module is other.module:
        return True
    first, second = one.module.state_dict(), other.module.state_dict()
    return first.keys() == second.keys() and all(
        first[k].shape == second[k].shape and torch.equal(first[k].cpu(), second[k].cpu()) for k in first
    )


def _checked(network: object, number: int, segmenter: FrozenSegmenter) -> FrozenSegmenter:
    if not isinstance(network, FrozenSegmenter):
        raise InputError(
            f"Member {number} is a {type(network).__name__}, expected a FrozenSegmenter; make one with "
            "sfumato.segmenters.wrap."
        )
    for field in SAME:
        own, wanted = getattr(network.spec, field), getattr(segmenter.spec, field)
        if own != wanted:
            name = f" ({network.spec.source})" if network.spec.source else ""
            raise ConfigError(
                f"Member {number}{name}: {field} is {own}, expected the segmenter's, {wanted}; train the members on "
                "the same task with the same preprocessing."
            )
    if (network.condition is None) is not (segmenter.condition is None):
        reads = ["reads no sentences", "reads sentences"]
        raise ConfigError(
            f"Member {number} {reads[network.condition is not None]} and the segmenter "
            f"{reads[segmenter.condition is not None]}, expected the same of both; leave the member out."
        )
    return network
