"""The fusion block: places of an image attend to each other, then to the mixed text.

Das et al., arXiv 2602.14498, "Modality Decoding Attention Block" (MoDAB). With v the visual tokens, s the mixed text,
P sinusoidal positions (Vaswani et al., 2017, arXiv 1706.03762, section 3.5) and LN layer norms:

    v1 = v + LN(SA(LN(v) + P))
    v2 = v1 + alpha LN(CA(query LN(v1) + P, key s + P, value s))
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from .config import TextGuidedConfig
from .ssmix import MIXERS

HEADS = 4


def position_code(
    length: int, width: int, device: torch.device | None = None
) -> Float[Tensor, "length width"]:
    """sin(t 10000^(-2i / width)) in column 2i and its cosine in column 2i + 1, for t = 0 ... length - 1.

    Example:
        >>> position_code(2, 768)[1, :4]
        tensor([0.8415, 0.5403, 0.8284, 0.5601])
    """
    position = torch.arange(length, device=device, dtype=torch.float32).unsqueeze(1)
    frequency = 10000 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle = position * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


class SelfAttention(nn.Module):
    """Multi-head attention whose queries and keys are normalised per head; values carry positions as they do.

    Args:
        width: of the tokens.
        dropout: of attention weights and output, while training.
        always: attention weights are dropped at inference too, as in the authors' program.
    """

    def __init__(self, width: int, dropout: float, always: bool = False):
        super().__init__()
        self.attention_dropout, self.always = dropout, always
        self.project = nn.Linear(width, 3 * width)
        self.query_norm = nn.LayerNorm(width // HEADS)
        self.key_norm = nn.LayerNorm(width // HEADS)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens width"]:
        """Attend; all tokens see all tokens."""
        heads = self.project(x).unflatten(2, (3, HEADS, -1))
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        rate = self.attention_dropout if self.training or self.always else 0.0
        attended = F.scaled_dot_product_attention(
            self.query_norm(query), self.key_norm(key), value, dropout_p=rate
        )
        return self.dropout(self.output(attended.transpose(1, 2).flatten(2)))


class ModalityDecodingAttention(nn.Module):
    """One fusion block; its output has the shape of the visual tokens.

    Args:
        config: of the network.
        text_width: of the language model.
        width: of the visual tokens; a multiple of 4.
        tokens: that the text is mixed into.

    Example:
        >>> block = ModalityDecodingAttention(TextGuidedConfig(), text_width=12, width=8, tokens=5).eval()
        >>> fused, attention = block(torch.zeros(2, 49, 8), torch.zeros(2, 24, 12), return_attention=True)
        >>> fused.shape, attention.shape
        (torch.Size([2, 49, 8]), torch.Size([2, 49, 5]))
    """

    def __init__(self, config: TextGuidedConfig, text_width: int, width: int, tokens: int):
        super().__init__()
        self.without_text_identity = config.profile == "released"
        self.positions_in_self_attention = config.profile != "paper"
        self.before_self, self.after_self = nn.LayerNorm(width), nn.LayerNorm(width)
        self.before_cross, self.after_cross = nn.LayerNorm(width), nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, config.dropout, always=config.profile == "released")
        self.mixer = MIXERS[config.mixer](config, text_width, width, tokens)
        attends = config.fusion == "modab"
        self.cross_attention = nn.MultiheadAttention(width, HEADS, batch_first=True) if attends else None
        self.cross_scale = nn.Parameter(torch.tensor(config.cross_scale))

    def forward(
        self,
        visual: Float[Tensor, "batch places width"],
        text: Float[Tensor, "batch length text_width"] | None,
        keep: Bool[Tensor, "batch length"] | None = None,
        present: Bool[Tensor, "batch"] | None = None,
        return_attention: bool = False,
    ) -> tuple[Float[Tensor, "batch places width"], Float[Tensor, "batch places tokens"] | None]:
        """Fuse, and on request how much each place attends to each mixed token: the mean over heads, 0 without text.

        Args:
            visual: places in raster order.
            text: states of the language model; None leaves the text out.
            keep: False for padded tokens, which then take no part.
            present: False for rows that have no text; they come out as with text None.
            return_attention: also give the attention, if there is any.
        """
        if text is None and self.without_text_identity:
            return visual, None
        code = position_code(*visual.shape[1:], device=visual.device)
        query = self.before_self(visual)
        query = query + code if self.positions_in_self_attention else query
        attended = visual + self.after_self(self.self_attention(query))
        if text is None:
            return attended, None
        update, attention = self._look_into_text(
            attended, code, F.gelu(self.mixer(text, keep)), return_attention
        )
        fused = attended + self.cross_scale * self.after_cross(update)
        if present is not None:
            here = present[:, None, None]
            fused = torch.where(here, fused, visual if self.without_text_identity else attended)
            attention = None if attention is None else torch.where(here, attention, 0.0)
        return fused, attention

    def _look_into_text(
        self, visual: Tensor, code: Tensor, tokens: Tensor, return_attention: bool
    ) -> tuple[Tensor, Tensor | None]:
        if self.cross_attention is None:
            return tokens.mean(dim=1, keepdim=True).expand_as(visual), None
        key = tokens + position_code(*tokens.shape[1:], device=tokens.device)
        query = self.before_cross(visual) + code
        return self.cross_attention(query, key, tokens, need_weights=return_attention)
