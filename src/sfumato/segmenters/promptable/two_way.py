"""SAM's two-way transformer (Kirillov et al., 2023, appendix A), arranged for many prompts on one image.

Tokens are few and image cells many, and until a prompt has written into the image its cells are the same for all
prompts: what the first layer projects of them is computed once (`prepare`). Later, a cell is never projected: with
weights W of a head, a score q . (W x) is (W^T q) . x, and a weighted sum of W x is W times the weighted sum of x. That
costs tokens times heads (56 columns for a click) in place of two projections to 128.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

HEADS = 8
CELLS_AT_ONCE = 512
"""Cells are worked on in pieces that stay in a core's cache: fresh memory for all of them costs more than the sums."""


class Attention(nn.Module):
    """Multi-head attention with projections to `inner` columns; as it is, among tokens."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)
        self.scale = (inner // HEADS) ** -0.5

    def forward(
        self,
        placed: Float[Tensor, "prompts tokens feature_width"],
        values: Float[Tensor, "prompts tokens feature_width"],
    ) -> Float[Tensor, "prompts tokens feature_width"]:
        """Plain attention of `placed` to itself."""
        q, k, v = heads_of(self.q_proj(placed)), heads_of(self.k_proj(placed)), heads_of(self.v_proj(values))
        found = torch.softmax(q @ k.transpose(2, 3) * self.scale, dim=3) @ v
        return self.out_proj(found.transpose(1, 2).flatten(2))


class TokensToImage(Attention):
    """Tokens look at image cells."""

    def look(
        self,
        queries: Float[Tensor, "prompts tokens feature_width"],
        cells: Float[Tensor, "prompts cells feature_width"],
        places: Float[Tensor, "cells feature_width"],
    ) -> Float[Tensor, "prompts tokens feature_width"]:
        """What tokens find in cells; `places` are the cells' positions."""
        q = heads_of(self.q_proj(queries)) * self.scale
        # The bias of the keys adds the same to all cells of a token, which softmax does not see.
        folded = (q @ _per_head(self.k_proj)).flatten(1, 2)
        weights = torch.softmax(_scores(folded, cells, places), dim=2)
        seen = (weights @ cells).unflatten(1, (HEADS, -1))
        found = seen @ _per_head(self.v_proj).transpose(1, 2)
        return self.out_proj(found.transpose(1, 2).flatten(2) + self.v_proj.bias)

    def look_shared(
        self, queries: Float[Tensor, "prompts tokens feature_width"], shared: SharedCells
    ) -> Float[Tensor, "prompts tokens feature_width"]:
        """The same in cells that are equal for all prompts."""
        q = heads_of(self.q_proj(queries)) * self.scale
        found = torch.softmax(q @ shared.keys, dim=3) @ shared.values
        return self.out_proj(found.transpose(1, 2).flatten(2))


class ImageToTokens(Attention):
    """Image cells look at tokens: which tokens they weigh, and what these say."""

    def look(
        self,
        cells: Float[Tensor, "prompts cells feature_width"],
        places: Float[Tensor, "cells feature_width"],
        keys: Float[Tensor, "prompts tokens feature_width"],
        values: Float[Tensor, "prompts tokens feature_width"],
    ) -> tuple[Float[Tensor, "prompts seen cells"], Float[Tensor, "prompts seen feature_width"]]:
        """Weights and what they weigh; the cells' answer is weights^T @ weighed plus the output's bias."""
        k = heads_of(self.k_proj(keys)) * self.scale
        folded = (k @ _per_head(self.q_proj)).flatten(1, 2)
        bias = (k @ self.q_proj.bias.unflatten(0, (HEADS, -1))[:, :, None]).flatten(1, 2)
        scores = _scores(folded, cells, places).add_(bias)
        return self._weighed(scores.unflatten(1, (HEADS, -1)), values)

    def look_shared(
        self,
        shared: SharedCells,
        keys: Float[Tensor, "prompts tokens feature_width"],
        values: Float[Tensor, "prompts tokens feature_width"],
    ) -> tuple[Float[Tensor, "prompts seen cells"], Float[Tensor, "prompts seen feature_width"]]:
        """The same from cells that are equal for all prompts."""
        k = heads_of(self.k_proj(keys)) * self.scale
        return self._weighed(k @ shared.queries, values)

    def _weighed(self, scores: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out_proj.weight.T.unflatten(0, (HEADS, -1))
        weighed = heads_of(self.v_proj(values)) @ out
        return torch.softmax(scores, dim=2).flatten(1, 2), weighed.flatten(1, 2)


@dataclass(frozen=True)
class SharedCells:
    """Cells that no prompt has written into, and what the first layer projects of them.

    Args:
        cells: of the image, without positions.
        places: position codes of the cells.
        keys: of the first layer's look at the image, transposed.
        values: of that look.
        queries: of the first layer's look at the tokens, transposed.
    """

    cells: Float[Tensor, "cells feature_width"]
    places: Float[Tensor, "cells feature_width"]
    keys: Float[Tensor, "heads head_width cells"]
    values: Float[Tensor, "heads cells head_width"]
    queries: Float[Tensor, "heads head_width cells"]


class TwoWayLayer(nn.Module):
    """Tokens among themselves, tokens to image, a perceptron on tokens, image to tokens."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.self_attn = Attention(width, width)
        self.cross_attn_token_to_image = TokensToImage(width, width // 2)
        self.cross_attn_image_to_token = ImageToTokens(width, width // 2)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(width, hidden), "lin2": nn.Linear(hidden, width)})
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))

    def prepare(
        self, cells: Float[Tensor, "cells feature_width"], places: Float[Tensor, "cells feature_width"]
    ) -> SharedCells:
        """What this layer, as the first one, projects of cells."""
        placed, look, answer = cells + places, self.cross_attn_token_to_image, self.cross_attn_image_to_token
        keys, values, queries = (
            heads_of(y[None])[0] for y in (look.k_proj(placed), look.v_proj(cells), answer.q_proj(placed))
        )
        return SharedCells(cells, places, keys.transpose(1, 2), values, queries.transpose(1, 2))

    def first(self, tokens: Tensor, shared: SharedCells, into: Tensor) -> Tensor:
        """The layer on untouched cells: tokens are also their own positions, and do not keep what they were.

        Args:
            tokens: (prompts, tokens, width).
            shared: the cells, from `prepare`.
            into: (prompts, cells, width), receives the cells after the layer.
        """
        positions = tokens
        tokens = self.norm1(self.self_attn(tokens, tokens))
        tokens = self.norm2(tokens + self.cross_attn_token_to_image.look_shared(tokens + positions, shared))
        tokens = self._perceive(tokens)
        weights, weighed = self.cross_attn_image_to_token.look_shared(shared, tokens + positions, tokens)
        self._write(shared.cells.expand(len(tokens), -1, -1), weights, weighed, into)
        return tokens

    def forward(self, tokens: Tensor, cells: Tensor, positions: Tensor, places: Tensor) -> Tensor:
        """Tokens after the layer; the cells (prompts, cells, width) are changed where they are."""
        tokens = self.norm1(tokens + self.self_attn(tokens + positions, tokens))
        tokens = self.norm2(tokens + self.cross_attn_token_to_image.look(tokens + positions, cells, places))
        tokens = self._perceive(tokens)
        weights, weighed = self.cross_attn_image_to_token.look(cells, places, tokens + positions, tokens)
        self._write(cells, weights, weighed, cells)
        return tokens

    def _perceive(self, tokens: Tensor) -> Tensor:
        return self.norm3(tokens + self.mlp["lin2"](F.relu(self.mlp["lin1"](tokens))))

    def _write(self, cells: Tensor, weights: Tensor, weighed: Tensor, into: Tensor) -> None:
        # Each cell's weights sum to one per head, so the bias may ride on what the first head weighs.
        tokens = weighed.shape[1] // HEADS
        first = torch.arange(weighed.shape[1], device=cells.device) < tokens
        weighed = weighed + first[:, None] * self.cross_attn_image_to_token.out_proj.bias
        for start in range(0, cells.shape[1], CELLS_AT_ONCE):
            part = slice(start, start + CELLS_AT_ONCE)
            written = torch.baddbmm(cells[:, part], weights[:, :, part].transpose(1, 2), weighed)
            into[:, part] = self.norm4(written)


class TwoWayTransformer(nn.Module):
    """Two layers and a last look of the tokens at the image."""

    def __init__(self, width: int = 256, hidden: int = 2048, depth: int = 2):
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(width, hidden) for _ in range(depth))
        self.final_attn_token_to_image = TokensToImage(width, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def prepare(
        self, cells: Float[Tensor, "cells feature_width"], places: Float[Tensor, "cells feature_width"]
    ) -> SharedCells:
        """What all prompts on the same cells have in common."""
        return _layer(self.layers[0]).prepare(cells, places)

    def forward(
        self,
        tokens: Float[Tensor, "prompts tokens feature_width"],
        shared: SharedCells,
        cells: Float[Tensor, "prompts cells feature_width"],
    ) -> Float[Tensor, "prompts tokens feature_width"]:
        """Tokens after the transformer.

        Args:
            tokens: output tokens, then prompt tokens.
            shared: from `prepare`.
            cells: receives the cells after the transformer.
        """
        positions, (first, *others) = tokens, self.layers
        tokens = _layer(first).first(tokens, shared, cells)
        for layer in others:
            tokens = layer(tokens, cells, positions, shared.places)
        found = self.final_attn_token_to_image.look(tokens + positions, cells, shared.places)
        return self.norm_final_attn(tokens + found)


def _layer(module: nn.Module) -> TwoWayLayer:
    assert isinstance(module, TwoWayLayer)
    return module


def heads_of(x: Float[Tensor, "prompts tokens inner"]) -> Float[Tensor, "prompts heads tokens head_width"]:
    """Columns dealt out to the heads."""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


def _per_head(layer: nn.Linear) -> Float[Tensor, "heads head_width feature_width"]:
    return layer.weight.unflatten(0, (HEADS, -1))


def _scores(
    folded: Float[Tensor, "prompts seen feature_width"],
    cells: Float[Tensor, "prompts cells feature_width"],
    places: Float[Tensor, "cells feature_width"],
) -> Float[Tensor, "prompts seen cells"]:
    pairs = zip(cells.split(CELLS_AT_ONCE, dim=1), places.split(CELLS_AT_ONCE), strict=True)
    return torch.cat([folded @ (part + place).transpose(1, 2) for part, place in pairs], dim=2)
