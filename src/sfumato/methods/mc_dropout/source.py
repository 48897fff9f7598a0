"""The passes of Monte Carlo dropout."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ...heads.passes import PassSource
from ...segmenters.frozen import FrozenSegmenter
from ...types import Batch, Segmentation
from .config import McDropoutConfig
from .hooks import choose_places, dropping


class DropoutPasses(PassSource):
    """T passes of a frozen network with dropout on.

    The masks are a function of the seed, the pass and the window's shape alone. Each row is run by itself, so that a
    batch gives what its rows give.

    Args:
        config: see `McDropoutConfig`.
        segmenter: the frozen network.

    Raises:
        ConfigError: nothing to drop.
    """

    def __init__(self, config: McDropoutConfig, segmenter: FrozenSegmenter):
        super().__init__()
        self.config = config
        self.segmenter = segmenter
        self.places = choose_places(config, segmenter)

    @property
    def sample_count(self) -> int:
        """T."""
        return self.config.passes

    @property
    def pass_count(self) -> int:
        """T, and the segmenter's own without dropout."""
        return self.config.passes + 1

    def probabilities(
        self, batch: Batch, segmentation: Segmentation
    ) -> Iterator[Float[Tensor, "batch classes *grid"]]:
        """One stochastic probability after the other."""
        generator = torch.Generator()
        for number in range(self.config.passes):
            seed = self.config.seed * 1_000_003 + number
            rows = []
            # Hooks go before the probability is handed out: a caller that stops must not leave them behind.
            with dropping(self.segmenter.module, self.places, self.config.rate, generator, seed):
                for row in batch.rows():
                    rows.append(self.segmenter.segment(row).probability())
            yield torch.cat(rows)
