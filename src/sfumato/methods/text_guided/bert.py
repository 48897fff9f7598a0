"""The body of BERT (Devlin et al., 2019, arXiv 1810.04805, section 3): tokens in, one state per token out.

A body alone, so that any BERT of a public repository, CXR-BERT and PubMedBERT too, runs from its plain tensors: no code
of the repository, no heads, no dropout, as it never trains here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, StorageError
from ...segmenters.state import fill

KINDS = "bert", "cxr-bert"
"""Of `model_type`: CXR-BERT (Boecking et al., 2022) is a BERT with a projection on top that is not used here."""


class Layer(nn.Module):
    """Self-attention and two linear layers, each added to its input and normalised after that."""

    def __init__(self, width: int, heads: int, inner: int, epsilon: float):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.mix = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width, epsilon)
        self.widen, self.narrow = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm_inner = nn.LayerNorm(width, epsilon)

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """(batch, length, width) to the same; `attended` (batch, 1, 1, length) marks the tokens that are looked at."""
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=attended)
        x = self.norm_attention(x + self.mix(seen.transpose(1, 2).flatten(2)))
        return self.norm_inner(x + self.narrow(F.gelu(self.widen(x))))


class Bert(nn.Module):
    """States of the last layer.

    Args:
        vocabulary: word pieces.
        width: of the states.
        layers: how many.
        heads: of self-attention.
        inner: width between the two linear layers.
        positions: the longest sentence in tokens.
        kinds: of sentences; only the first is used.
        epsilon: of the normalisations.

    Example:
        >>> body = Bert(vocabulary=9, width=8, layers=1, heads=2, inner=16).eval()
        >>> tuple(body(torch.tensor([[2, 5, 3, 0]]), torch.tensor([[True, True, True, False]])).shape)
        (1, 4, 8)
    """

    def __init__(
        self,
        vocabulary: int = 30522,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        inner: int = 3072,
        positions: int = 512,
        kinds: int = 2,
        epsilon: float = 1e-12,
    ):
        super().__init__()
        self.word, self.position = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.kind = nn.Embedding(kinds, width)
        self.norm = nn.LayerNorm(width, epsilon)
        self.layers = nn.ModuleList(Layer(width, heads, inner, epsilon) for _ in range(layers))

    def forward(
        self, tokens: Int[Tensor, "batch length"], keep: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch length width"]:
        """Tokens that are not kept (padding) are looked at by none, yet have states of their own, as in BERT."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.norm(self.word(tokens) + self.position(positions) + self.kind.weight[0])
        for layer in self.layers:
            x = layer(x, keep[:, None, None, :])
        return x


SIZES = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "inner",
    "max_position_embeddings": "positions",
    "type_vocab_size": "kinds",
    "layer_norm_eps": "epsilon",
}
"""Fields of a published configuration, all with BERT's defaults, as arguments of `Bert`."""
UNUSED = re.compile(r"(cls|cls_projection_head|pooler)\.|embeddings\.position_ids$")
"""Heads on top, and a table of 0, 1, 2, ... that older files hold."""
NAMES = {
    "embeddings.word_embeddings": "word",
    "embeddings.position_embeddings": "position",
    "embeddings.token_type_embeddings": "kind",
    "embeddings.LayerNorm": "norm",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "mix",
    "attention.output.LayerNorm": "norm_attention",
    "intermediate.dense": "widen",
    "output.dense": "narrow",
    "output.LayerNorm": "norm_inner",
}
OLD_NAMES = {"gamma": "weight", "beta": "bias"}


def published_bert(config: Mapping[str, Any], state: Mapping[str, Tensor], place: Path) -> Bert:
    """A body from a published configuration and tensors, in eval mode and frozen.

    Args:
        config: content of `config.json`.
        state: content of the file of weights; heads are left out, every other tensor must fit.
        place: of that file, for messages.

    Raises:
        ConfigError: another kind of network, or a variant of BERT's layers.
        StorageError: tensors that do not fit.
    """
    kind = config.get("model_type")
    if kind not in KINDS:
        raise ConfigError(f"{place}: a network of type {kind!r}, expected one of {', '.join(KINDS)}.")
    for field, expected in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if config.get(field, expected) != expected:
            raise ConfigError(f"{place}: {field} is {config[field]!r}, expected {expected!r}.")
    body = Bert(**{ours: config[theirs] for theirs, ours in SIZES.items() if theirs in config})
    fill(body, _renamed(state, place), place)
    return body.eval().requires_grad_(False)


def _renamed(state: Mapping[str, Tensor], place: Path) -> dict[str, Tensor]:
    """`bert.encoder.layer.3.output.dense.bias` is `layers.3.narrow.bias`."""
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix("bert.")
        if UNUSED.match(name):
            continue
        part, _, end = name.rpartition(".")
        numbered = re.fullmatch(r"encoder\.layer\.(\d+)\.(.+)", part)
        part = numbered[2] if numbered else part
        if part not in NAMES:
            raise StorageError(f"{place}: the unknown tensor {name}, expected those of a plain BERT.")
        before = f"layers.{numbered[1]}." if numbered else ""
        renamed[f"{before}{NAMES[part]}.{OLD_NAMES.get(end, end)}"] = value.float()
    return renamed
