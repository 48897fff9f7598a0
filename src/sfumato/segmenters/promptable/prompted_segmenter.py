"""A promptable network behind the segmenter's interface: one image and one prompt per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import InputError
from ...types import Batch, BoxPrompt, Link, PointPrompt, Segmentation, SpatialPrompt
from ..spec import Preprocessing, SegmenterSpec
from .protocol import Decoded, PromptableSegmenter


@dataclass(frozen=True)
class PromptedSegmentation(Segmentation):
    """The network's own pick, and everything else that it answered.

    Args:
        decoded: one per row of the batch, each of one prompt.
    """

    decoded: tuple[Decoded, ...] = ()


class PromptedSegmenter:
    """Segments the object that each row's prompt points at; the mask is the one that the network itself ranks first.

    Args:
        model: encodes a plane and answers prompts.
        channels: of the images, 1 or 3; intensities in [0, 1].

    Example:
        >>> from sfumato.segmenters.promptable.tiny import PhantomPromptable
        >>> segmenter = PromptedSegmenter(PhantomPromptable(), channels=1)
        >>> image = torch.zeros(1, 1, 40, 50)
        >>> image[:, :, 10:20, 10:20] = 1
        >>> prompt = SpatialPrompt.of_points([[(15, 15, 1)]])
        >>> segmentation = segmenter.segment(Batch(image, prompt))
        >>> tuple(segmentation.logits.shape), tuple(segmentation.features["mask_tokens"].shape)
        ((1, 1, 40, 50), (1, 4, 256))
    """

    def __init__(self, model: PromptableSegmenter, channels: int = 3):
        self.model = model
        self.spec = SegmenterSpec(
            source=f"promptable:{model.card.name}",
            spatial_dims=2,
            channels=channels,
            classes=("background", "object"),
            window=(model.card.side, model.card.side),
            link=Link.SIGMOID,
            preprocessing=Preprocessing(normalisation="unit"),
        )

    def segment(self, batch: Batch) -> PromptedSegmentation:
        """Logits of the network's own pick at the image's pixels; tokens and estimates as features.

        The features are `iou_token` (batch, 1, width), `mask_tokens` (batch, 4, width) and `estimates` (batch, 1, 3).

        Raises:
            InputError: no prompt, a text, another number of prompts than images, or an image that does not fit.
        """
        prompts = self._prompts(batch)
        decoded = []
        for row, plane in enumerate(batch.image):
            embedding = self.model.encode(plane)
            decoded.append(self.model.decode(embedding, prompts[row]))
        logits = torch.cat([own_logits(answer) for answer in decoded])
        return PromptedSegmentation(logits, Link.SIGMOID, _features(decoded), tuple(decoded))

    def _prompts(self, batch: Batch) -> SpatialPrompt:
        shape, channels = tuple(batch.image.shape), self.spec.channels
        if batch.image.dim() != 4:
            raise InputError(f"An image batch of shape {shape}, expected (batch, {channels}, H, W).")
        if shape[1] != channels:
            raise InputError(f"{shape[1]} image channels, expected {channels}.")
        prompts = spatial(batch.prompt)
        if len(prompts) != shape[0]:
            raise InputError(f"{len(prompts)} prompts for {shape[0]} images, expected one each.")
        return prompts


def spatial(prompt: object) -> SpatialPrompt:
    """Points or boxes as the prompt that networks of planes take.

    Raises:
        InputError: none, or a text.
    """
    if isinstance(prompt, SpatialPrompt):
        return prompt
    if isinstance(prompt, PointPrompt):
        return SpatialPrompt(prompt.coordinates, prompt.signs)
    if isinstance(prompt, BoxPrompt):
        return SpatialPrompt.of_boxes(prompt.corners)
    given = "no prompt" if prompt is None else f"a {type(prompt).__name__}"
    raise InputError(
        f"The batch has {given}, expected a SpatialPrompt, PointPrompt or BoxPrompt with one prompt per image; this "
        "network segments what it is pointed at."
    )


def own_logits(decoded: Decoded) -> Tensor:
    """(prompts, 1, height, width): logits of the hypothesis that the network ranks first, at the plane's pixels."""
    rows = torch.arange(len(decoded.estimates), device=decoded.logits.device)
    picked = decoded.logits[rows, decoded.own_pick()]
    return decoded.frame.to_plane(picked[:, None])


def _features(decoded: list[Decoded]) -> Mapping[str, Tensor]:
    return {
        "iou_token": torch.stack([answer.iou_token for answer in decoded]),
        "mask_tokens": torch.cat([answer.mask_tokens for answer in decoded]),
        "estimates": torch.stack([answer.estimates for answer in decoded]),
    }
