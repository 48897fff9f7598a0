"""SAM, MedSAM, SAM 2 and EdgeTAM of the transformers library as promptable segmenters.

The network runs as it is, always with its three hypotheses; what it does not return, its tokens, is seen where its own
heads take them in (see `token_tap`).
"""

from __future__ import annotations

import threading
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError, InputError
from ...types import SpatialPrompt
from ..hub_repository import licence_of, load_repository, preprocessor_of
from ..inputs import IMAGENET_MEAN, IMAGENET_STD, check_slices
from ..pinned import weights_sha256
from .frame import MASK_STRIDE, Frame
from .layouts import PROMPTS_AT_ONCE, check_prompts, decode_by_layout
from .protocol import Decoded, Embedding, PromptableCard
from .token_tap import check_decoder, seen_tokens

FAMILIES: dict[str, Literal["sam", "sam2"]] = {
    "sam": "sam",
    "sam2": "sam2",
    "sam2_video": "sam2",
    "edgetam": "sam2",
}
"""Whose tokens a kind of network has, by its configuration's `model_type`; MedSAM's is `sam`."""
REFUSED = {
    "sam_hq": "it sorts its hypotheses by its own score, so that none belongs to a mask token any more"
}
MAPS = {1: ("image",), 3: ("stride4", "stride8", "image")}
"""Names of what the decoder takes: SAM 2 also has two finer maps."""


class TransformersSam:
    """A network of the transformers library behind the protocol of promptable segmenters.

    SAM's estimates of IoU are not squashed and may leave [0, 1]; SAM 2's are sigmoids. Single masks are not returned,
    as the library drops them beside the hypotheses.

    Args:
        source: a folder that `save_pretrained` wrote, a repository's name on the hub (which may be downloaded), or a
            `SamModel`, `Sam2Model` or `EdgeTamModel` that is there already; it is set to eval mode, float32
            and frozen.
        device: where the network runs; embeddings and answers are on the CPU.
        side: of the network's square input, to be sure of it; a network takes one only.

    Raises:
        MissingExtraError: transformers is not installed.
        StorageError: no such repository, or one without safetensors.
        ConfigError: another kind of network, or a side that it does not take.
    """

    def __init__(self, source: str | nn.Module, device: torch.device | str = "cpu", side: int | None = None):
        self.device = torch.device(device)
        named = isinstance(source, str)
        network: Any = load_repository(source)[1] if isinstance(source, str) else source
        self.family = _family(network)
        self.network = network.eval().requires_grad_(False).to(self.device, torch.float32)
        check_decoder(self.network.mask_decoder)
        fixed = int(network.config.prompt_encoder_config.image_size)
        if side not in (None, fixed):
            raise ConfigError(f"side={side}, expected {fixed}, the only one that {_name(source)} takes.")
        said = preprocessor_of(source) if isinstance(source, str) else {}
        self._mean = tuple(said.get("image_mean") or IMAGENET_MEAN)
        self._std = tuple(said.get("image_std") or IMAGENET_STD)
        self._stretch = _stretches(said, self.family)
        self._lock = threading.Lock()  # two threads inside the same hooks would see each other's tokens
        licence = licence_of(str(source)) if named else "unknown"
        self.card = PromptableCard(_name(source), weights_sha256(network), self.family, fixed, licence)

    @torch.no_grad()
    def encode(self, plane: Float[Tensor, "channels height width"]) -> Embedding:
        """See `PromptableSegmenter.encode`: what the decoder attends to, and SAM 2's two finer maps."""
        check_slices(plane[None])
        frame = Frame((plane.shape[-2], plane.shape[-1]), self.card.side, self._stretch)
        square = frame.square(plane.to(self.device), self._mean, self._std)
        with self._full_precision():
            found = self.network.get_image_embeddings(square)
        maps = [found] if isinstance(found, Tensor) else list(found)
        named = {name: value[0].float().cpu() for name, value in zip(MAPS[len(maps)], maps, strict=True)}
        return Embedding(named, frame, self.card.key)

    @torch.no_grad()
    def decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        """See `PromptableSegmenter.decode`.

        Raises:
            InputError: also a mask prompt that is not on the network's mask grid.
        """
        check_prompts(prompts, embedding, self.card)
        grid = (self.card.side // MASK_STRIDE,) * 2
        if prompts.mask is not None and tuple(prompts.mask.shape[1:]) != grid:
            raise InputError(f"Masks of {tuple(prompts.mask.shape[1:])} cells as prompts, expected {grid}.")
        return decode_by_layout(prompts, lambda rows: self._decode(embedding, rows), PROMPTS_AT_ONCE)

    def _decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        # The library adds one mask to an image's cells for all its prompts: with masks, every row is its own image.
        count = len(prompts)
        images, each = (count, 1) if prompts.mask is not None else (1, count)
        maps = [m.to(self.device)[None].expand(images, -1, -1, -1) for m in embedding.maps.values()]
        inputs = self._inputs(embedding.frame, prompts, images, each)
        whole = maps[0] if self.family == "sam" else maps
        with self._full_precision(), self._lock, seen_tokens(self.network.mask_decoder) as seen:
            answer = self.network(image_embeddings=whole, multimask_output=True, **inputs)

        def rows(value: Tensor, own_axes: int) -> Tensor:
            return value.float().reshape(count, *value.shape[value.dim() - own_axes :]).cpu()

        score = getattr(answer, "object_score_logits", None)
        return Decoded(
            rows(answer.pred_masks, 3),
            rows(answer.iou_scores, 1),
            rows(seen.iou_token(), 1),
            rows(seen.mask_tokens(), 2),
            embedding.frame,
            None if score is None else rows(score, 1)[:, 0],
        )

    def _full_precision(self) -> torch.autocast:
        """Rounded tokens tie masks that are not equal, so a caller's autocast ends here."""
        return torch.autocast(self.device.type, enabled=False)

    def _inputs(self, frame: Frame, prompts: SpatialPrompt, images: int, each: int) -> dict[str, Tensor]:
        """Prompts as the library takes them: (x, y) in pixels of the square, batches of (images, prompts of each)."""

        def places(coordinates: Tensor) -> Tensor:
            return frame.to_square(coordinates.float()).flip(-1).to(self.device)

        inputs = {}
        clicks = prompts.signs.shape[1]
        if clicks:
            inputs["input_points"] = places(prompts.coordinates).reshape(images, each, clicks, 2)
            inputs["input_labels"] = prompts.signs.to(self.device).reshape(images, each, clicks)
        if prompts.corners is not None:
            inputs["input_boxes"] = places(prompts.corners).reshape(images, each, 4)
        if prompts.mask is not None:
            inputs["input_masks"] = prompts.mask.float().to(self.device)[:, None]
        return inputs


def _name(source: str | nn.Module) -> str:
    return f"hf:{source}" if isinstance(source, str) else type(source).__name__


def _family(network: Any) -> Literal["sam", "sam2"]:
    kind = getattr(getattr(network, "config", None), "model_type", "")
    if kind not in FAMILIES or not hasattr(network, "mask_decoder"):
        reason = REFUSED.get(kind, f"known kinds are {', '.join(sorted(FAMILIES))}")
        raise ConfigError(f"{type(network).__name__} cannot be prompted here: {reason}.")
    return FAMILIES[kind]


def _stretches(said: dict[str, Any], family: str) -> bool:
    """Whether both sides become the square's: the repository's word, else as the family was trained."""
    size = said.get("size")
    return "longest_edge" not in size if isinstance(size, dict) else family == "sam2"
