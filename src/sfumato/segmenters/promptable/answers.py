"""From prompts in a plane's pixels to the decoder's tokens, and from its answers back to rows."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import InputError
from ...types import SpatialPrompt
from .frame import MASK_STRIDE, Frame
from .layouts import check_prompts, decode_by_layout
from .prompt_encoder import LOWER_RIGHT, NOT_A_POINT, UPPER_LEFT
from .protocol import Decoded, Embedding, PromptableCard
from .sam_decoder import DecoderOutput, SamDecoder, SharedCells


@torch.inference_mode()
def answer_prompts(
    decoder: SamDecoder, card: PromptableCard, embedding: Embedding, prompts: SpatialPrompt
) -> Decoded:
    """See `PromptableSegmenter.decode`; gives the single mask too.

    What the prompts share is computed once. Then one prompt at a time stays in the processor's cache, which is worth
    more than larger products, and makes a row's answer the same, bit for bit, whatever else is asked.

    Args:
        decoder: in eval mode.
        card: of the network that the decoder belongs to.
        embedding: of that network.
        prompts: any number, of any layouts.

    Raises:
        InputError: see `PromptableSegmenter.decode`; a mask prompt that is not on the network's mask grid.
    """
    check_prompts(prompts, embedding, card)
    image = embedding.maps["image"].float()
    shared = decoder.prepare(image)
    work = shared.cells.new_empty(1, *shared.cells.shape)

    def answer(alike: SpatialPrompt) -> Decoded:
        parts = []
        for prompt in (alike[row] for row in range(len(alike))):
            own = shared if prompt.mask is None else _with_mask(decoder, image, prompt.mask)
            points = prompt_tokens(decoder, prompt, embedding.frame)
            parts.append(decoder(own, points, image.shape[1], work))
        return _joined(parts, embedding.frame)

    return decode_by_layout(prompts, answer)


def prompt_tokens(
    decoder: SamDecoder, prompts: SpatialPrompt, frame: Frame
) -> Float[Tensor, "prompts points feature_width"]:
    """Clicks, then the box's corners, or SAM's point that is none where there is no box; prompts of one layout."""
    places, labels = frame.to_square(prompts.coordinates.float()), prompts.signs.long()
    if prompts.corners is None:
        corners = places.new_zeros(len(places), 1, 2)
        kinds: Int[Tensor, "points"] = torch.tensor([NOT_A_POINT])
    else:
        corners = frame.to_square(prompts.corners.float())
        kinds = torch.tensor([UPPER_LEFT, LOWER_RIGHT])
    labels = torch.cat([labels, kinds.expand(len(places), -1)], dim=1)
    return decoder.prompt_encoder.points(torch.cat([places, corners], dim=1).flip(2), labels, frame.side)


def _with_mask(decoder: SamDecoder, image: Tensor, mask: Float[Tensor, "1 rows columns"]) -> SharedCells:
    expected = MASK_STRIDE * image.shape[1], MASK_STRIDE * image.shape[2]
    if tuple(mask.shape[1:]) != expected:
        raise InputError(
            f"A mask prompt of {tuple(mask.shape[1:])} pixels, expected {expected}, the logits of an earlier answer "
            "of the same network."
        )
    return decoder.prepare(image, decoder.prompt_encoder.masks(mask.float())[0])


def _joined(parts: list[DecoderOutput], frame: Frame) -> Decoded:
    logits, estimates, iou_token, mask_tokens = (
        torch.cat([getattr(part, name) for part in parts])
        for name in ("logits", "estimates", "iou_token", "mask_tokens")
    )
    return Decoded(
        logits[:, 1:],
        estimates[:, 1:],
        iou_token,
        mask_tokens,
        frame,
        single_logits=logits[:, 0],
        single_estimates=estimates[:, 0],
    )
