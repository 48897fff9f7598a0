"""The passes of test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import ConfigError
from ...heads.passes import PassSource
from ...segmenters.frozen import FrozenSegmenter
from ...types import Batch, Segmentation
from .augmentations import make_augmentations
from .config import TestTimeAugmentationConfig


class AugmentedPasses(PassSource):
    """The segmenter's own pass, and one per augmentation that is kept.

    Args:
        config: see `TestTimeAugmentationConfig`.
        segmenter: the frozen network.

    Raises:
        ConfigError: a flip of an axis that is not there, or of any for a network that reads sentences.
    """

    kept: Tensor

    def __init__(self, config: TestTimeAugmentationConfig, segmenter: FrozenSegmenter):
        super().__init__()
        self.segmenter = segmenter
        settled = config if segmenter.condition is None else _without_flips(config)
        self.augmentations = make_augmentations(settled, segmenter.spec.spatial_dims)
        self.register_buffer("kept", torch.ones(len(self.augmentations), dtype=torch.bool))

    @property
    def sample_count(self) -> int:
        """The identity and what is kept."""
        return 1 + int(self.kept.sum())

    @property
    def pass_count(self) -> int:
        """As `sample_count`: the identity is the segmenter's own pass."""
        return self.sample_count

    def probabilities(
        self, batch: Batch, segmentation: Segmentation
    ) -> Iterator[Float[Tensor, "batch classes *grid"]]:
        """The segmentation's own probability, then that of each augmentation that is kept, moved back."""
        identity = segmentation.probability()
        yield identity
        for index in self.kept.nonzero()[:, 0].tolist():
            yield self.augmented(index, batch, identity)

    def augmented(
        self, index: int, batch: Batch, identity: Float[Tensor, "batch classes *grid"]
    ) -> Float[Tensor, "batch classes *grid"]:
        """The probability under one augmentation, moved back; `identity` where it saw nothing."""
        augmentation = self.augmentations[index]
        found = self.segmenter.segment(Batch(augmentation.change(batch.image), batch.prompt))
        return augmentation.restore(found.probability(), identity)


def _without_flips(config: TestTimeAugmentationConfig) -> TestTimeAugmentationConfig:
    """Settings for a network that reads sentences: on a mirrored image "at the left" would be false."""
    if config.flips:
        raise ConfigError(
            f"flips={config.flips} for a network that reads sentences, expected none: where the image is mirrored, a "
            "sentence that names a side is false; leave flips out."
        )
    return replace(config, flips=())
