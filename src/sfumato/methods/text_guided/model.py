"""The whole network: an image encoder, fusion blocks that look into a sentence, a decoder, logits.

Das et al., arXiv 2602.14498. The sentence comes as states of a frozen language model and enters the decoder's road
alone: what the encoder hands across is the image's.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, InputError
from .config import TextGuidedConfig
from .decoder import DecoderBlock, SubpixelUpsampling
from .modab import HEADS, ModalityDecodingAttention


class GuidedLogits(NamedTuple):
    """What `TextGuidedNetwork.forward` gives with `return_attention`.

    Args:
        logits: (batch, classes, height, width).
        attention: per fusion block, coarsest first: how much each place attends to each of the tokens that the text
            was mixed into, the mean over heads: (batch, tokens, rows, columns), in [0, 1], sum 1 over tokens, all 0
            in rows without text. Mixed tokens are not words: every one holds some of all words.
    """

    logits: Tensor
    attention: tuple[Tensor, ...]


LEAST_DEVIATION = 0.1
"""Of a channel of the text, as a share of the mean over channels, that it is divided by."""


class TextGuidedNetwork(nn.Module):
    """Image and text in, raw logits on the image's grid out.

    Args:
        encoder: image to features of strides 4, 8, 16 and 32, with `widths`, fine to coarse.
        config: how the rest is built.
        text_width: of the language model's states.

    Raises:
        ConfigError: an encoder without four levels, or of widths that the heads cannot share.

    Example:
        >>> from .image_encoder import build_image_encoder
        >>> encoder = build_image_encoder("efficientnet_lite0", weights="random")
        >>> network = TextGuidedNetwork(encoder, TextGuidedConfig(), text_width=384).eval()
        >>> network(torch.zeros(1, 3, 64, 50), torch.zeros(1, 24, 384)).shape
        torch.Size([1, 1, 64, 50])
    """

    text_mean: Tensor
    text_scale: Tensor

    def __init__(self, encoder: nn.Module, config: TextGuidedConfig, text_width: int = 768):
        super().__init__()
        widths = _checked_widths(encoder)
        self.config, self.text_width = config, text_width
        self.encoder = encoder
        if config.text_states == "standardised":
            self.register_buffer("text_mean", torch.zeros(text_width))
            self.register_buffer("text_scale", torch.ones(text_width))
        fused = zip(widths, config.mixed_tokens if config.fusion != "none" else (), strict=False)
        self.fusion = nn.ModuleList(ModalityDecodingAttention(config, text_width, w, n) for w, n in fused)
        self.decoder = nn.ModuleList(DecoderBlock(w, finer, config.norm) for w, finer in pairwise(widths))
        self.upsample = SubpixelUpsampling(config, widths[-1])
        self.head = nn.Conv2d(widths[-1] // 4, config.classes, 1)
        # Never called: the authors' program has a norm and a projection for a pooled output that nothing reads.
        coarsest = widths[0]
        unused = (
            [nn.LayerNorm(coarsest), nn.Linear(coarsest, coarsest)] if config.profile == "released" else []
        )
        self.unused = nn.ModuleList(unused)

    @torch.no_grad()
    def standardise(
        self, text: Float[Tensor, "sentences length text_width"], keep: Bool[Tensor, "sentences length"]
    ) -> None:
        """Take mean and deviation of every channel from the words of the training, where the settings ask for it.

        Args:
            text: states of the distinct sentences.
            keep: False for padded tokens; without any word nothing changes.
        """
        if self.config.text_states == "standardised" and keep.any():
            deviation, mean = torch.std_mean(text[keep], dim=0, correction=0)
            self.text_mean.copy_(mean)
            # Channels that hardly vary would be made noise.
            self.text_scale.copy_(deviation.clamp_min(LEAST_DEVIATION * float(deviation.mean()) + 1e-6))

    def forward(
        self,
        image: Float[Tensor, "batch channels height width"],
        text: Float[Tensor, "batch length text_width"] | None = None,
        keep: Bool[Tensor, "batch length"] | None = None,
        present: Bool[Tensor, "batch"] | None = None,
        return_attention: bool = False,
    ) -> Float[Tensor, "batch classes height width"] | GuidedLogits:
        """Logits, for images of any size.

        Args:
            image: as the image encoder expects it.
            text: states of the language model; None segments without a sentence.
            keep: False for padded tokens; all are words by default.
            present: False for rows whose text is missing: they come out as with text None, whatever `text` holds
                there. While training, rows also lose their text by chance, see `TextGuidedConfig.text_dropout`.
            return_attention: give `GuidedLogits`.

        Raises:
            InputError: text, keep or present of a wrong shape, or a text that is too long.
            ConfigError: attention asked of a network that has none.
        """
        if return_attention and (self.config.fusion != "modab" or text is None):
            raise ConfigError(
                f"Attention of fusion={self.config.fusion!r} {'without' if text is None else 'with'} text, expected "
                "fusion='modab' and a text; there is none to return."
            )
        text, keep, present = self._prepared(len(image), text, keep, present)
        *skips, x = self.encoder(image)
        attention = []
        for level in range(len(skips) + 1):
            if level > 0:
                x = self.decoder[level - 1](x, skips.pop())
            if level < len(self.fusion):
                fused, seen = self.fusion[level](
                    x.flatten(2).transpose(1, 2), text, keep, present, return_attention
                )
                x = fused.transpose(1, 2).unflatten(2, x.shape[2:])
                attention.append(None if seen is None else seen.transpose(1, 2).unflatten(2, x.shape[2:]))
        logits = self.head(self.upsample(x))[..., : image.shape[2], : image.shape[3]]
        return GuidedLogits(logits, tuple(attention)) if return_attention else logits

    def _prepared(
        self, rows: int, text: Tensor | None, keep: Tensor | None, present: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Text of the full length with zeros where there is none, which tokens are words, which rows have a text."""
        if text is None:
            return None, None, None
        self._check(rows, text, keep, present)
        present = torch.ones_like(text[:, 0, 0], dtype=torch.bool) if present is None else present
        if self.config.text_states == "standardised":
            text = (text - self.text_mean) / self.text_scale
        if self.training and self.config.text_dropout > 0:
            present = present & (torch.rand(rows, device=text.device) >= self.config.text_dropout)
        if not self.config.mask_padding:
            return torch.where(present[:, None, None], text, 0.0), None, present
        keep = torch.ones_like(text[..., 0], dtype=torch.bool) if keep is None else keep
        present = present & keep.any(dim=1)
        # A masked value that is not finite would still spoil gradients.
        text = torch.where((keep & present[:, None])[..., None], text, 0.0)
        missing = self.config.text_length - text.shape[1]
        return F.pad(text, (0, 0, 0, missing)), F.pad(keep, (0, missing)), present

    def _check(self, rows: int, text: Tensor, keep: Tensor | None, present: Tensor | None) -> None:
        length, most = text.shape[1], self.config.text_length
        if len(text) != rows or text.shape[2] != self.text_width:
            raise InputError(
                f"Text of shape {tuple(text.shape)} for {rows} image(s), expected ({rows}, at most {most}, "
                f"{self.text_width}); encode one sentence per image with the language model of the training."
            )
        if length > most or (length < most and not self.config.mask_padding):
            expected = f"at most {most}" if self.config.mask_padding else f"exactly {most}"
            raise InputError(
                f"Text of {length} tokens, expected {expected}; cut or pad it, or build the network with "
                f"text_length={length}."
            )
        for name, value, shape in (("keep", keep, (rows, length)), ("present", present, (rows,))):
            if value is not None and tuple(value.shape) != shape:
                raise InputError(
                    f"{name} of shape {tuple(value.shape)}, expected {shape}: one answer per entry."
                )


def _checked_widths(encoder: nn.Module) -> tuple[int, ...]:
    """The encoder's widths, coarse to fine."""
    widths = tuple(reversed(tuple(int(w) for w in encoder.widths)))  # type: ignore[arg-type]
    if len(widths) != 4 or any(w % HEADS for w in widths):
        raise ConfigError(
            f"An image encoder of widths {widths[::-1]}, expected four (strides 4, 8, 16 and 32) that are multiples of "
            f"{HEADS}, the number of attention heads."
        )
    return widths
