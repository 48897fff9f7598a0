"""A text-guided network of a few thousand parameters."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.methods.text_guided.bert import Bert
from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.model import TextGuidedNetwork
from sfumato.methods.text_guided.text_encoder import TextEncoder

TEXT_WIDTH = 12
PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "an",
    "object",
    "disc",
    "on",
    "the",
    "left",
    "right",
]


class TinyEncoder(nn.Module):
    """Strided convolutions at strides 4, 8, 16 and 32; sides are padded up."""

    def __init__(self, channels: int = 3, widths: tuple[int, ...] = (8, 8, 16, 32)):
        super().__init__()
        self.widths = widths
        self.stem = nn.Conv2d(channels, widths[0], 4, stride=4)
        self.stages = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Four maps, fine to coarse, ceil(side / stride) per axis."""
        rows, columns = image.shape[2:]
        x = F.relu(self.stem(F.pad(image, (0, -columns % 32, 0, -rows % 32))))
        found = [x]
        for stage in self.stages:
            x = F.relu(stage(x))
            found.append(x)
        strides = (4, 8, 16, 32)
        return [m[..., : -(-rows // s), : -(-columns // s)] for m, s in zip(found, strides, strict=True)]


@pytest.fixture(scope="session")
def tiny_network() -> Callable[..., TextGuidedNetwork]:
    """`tiny_network(seed=0, **settings)`: in eval mode; 6 tokens of 12 numbers, or as the settings have it."""

    def make(seed: int = 0, **settings) -> TextGuidedNetwork:
        known = {"text_length": 6, "mixed_tokens": (5, 4, 3), "state": 4} | settings
        config = TextGuidedConfig(**known)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TextGuidedNetwork(TinyEncoder(config.channels), config, TEXT_WIDTH).eval()

    return make


@pytest.fixture
def tiny_encoder() -> Callable[..., TextEncoder]:
    """`tiny_encoder(seed=0, length=6)`: a frozen language model of a few words, 12 wide."""
    implementations = pytest.importorskip("tokenizers.implementations")

    def make(seed: int = 0, length: int = 6) -> TextEncoder:
        words = implementations.BertWordPieceTokenizer({word: i for i, word in enumerate(PIECES)})
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return TextEncoder(Bert(len(PIECES), TEXT_WIDTH, 1, 2, 16, positions=32), words, length)

    return make
