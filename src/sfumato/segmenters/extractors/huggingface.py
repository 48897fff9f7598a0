"""Vision networks of the transformers library as extractors: SAM, SAM 2, DINOv2, DINOv3, ViT, ConvNeXt and kin.

Only safetensors are read and no code of a repository runs. Images are scaled and normalised here, with the numbers
in the repository's preprocessor file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError
from ..hub_repository import SEGMENT_ANYTHING, licence_of, load_repository, preprocessor_of, side_in
from ..inputs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    check_side,
    content,
    fitted_sides,
    in_chunks,
    normalised,
    padded,
    resized,
    three_channels,
)
from ..pinned import weights_sha256
from .extractor import ExtractorCard

FREE_TOKENS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
FREE_CONVOLUTIONS = ("dinov3_convnext", "convnext", "convnextv2", "resnet")
"""Networks that take any sides; all others take squares of one size, for their position embeddings."""
DEFAULT_SIDE = 224
COARSEST = 32
SLICES_AT_ONCE = 4


@dataclass(frozen=True)
class Input:
    """What a repository says about its network's input: the longer side, and mean and deviation per channel."""

    side: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class HuggingFaceExtractor:
    """One feature map per resolution, named by its stride, such as `stride14`; three of them for SAM 2.

    Slices keep their aspect: networks of any size (`FREE_TOKENS`, `FREE_CONVOLUTIONS`) see the longer side at `side`
    pixels and the other rounded to their patch; all others see a square with zeros below or to the right, and maps
    are cut to the part that shows the slice. Class and register tokens are dropped, patch tokens go back to their
    grid.

    Args:
        source: a folder that `save_pretrained` wrote, or a repository's name on the hub, which may be downloaded.
        device: where the network runs.
        side: the longer side in pixels, for networks of any size; by default what the repository says, else 224.
        main: the map that class-wise maps are made of; the coarsest by default.

    Raises:
        MissingExtraError: transformers is not installed.
        StorageError: no such repository, or one without safetensors.
        ConfigError: a network that gives no feature maps, or a side that it does not take.
    """

    def __init__(
        self,
        source: str,
        device: torch.device | str = "cpu",
        side: int | None = None,
        main: str | None = None,
    ):
        self.device = torch.device(device)
        config, self.network = load_repository(source)
        self.network = self.network.eval().requires_grad_(False).to(self.device)
        self.vision = getattr(config, "vision_config", config)
        self.free = config.model_type in FREE_TOKENS + FREE_CONVOLUTIONS
        self.run = _FORWARD.get(config.model_type, _tokens)
        convolutional = config.model_type in FREE_CONVOLUTIONS
        self.patch = COARSEST if convolutional else int(getattr(self.vision, "patch_size", COARSEST))
        self.input = self._choose_input(source, side)
        check_side(self.input.side, self.patch if self.free else 1)
        blank = self.features(torch.zeros(1, 1, self.input.side, self.input.side))
        if main is not None and main not in blank:
            raise ConfigError(f"main={main!r}, expected one of {', '.join(blank)}.")
        self.card = ExtractorCard(
            f"hf:{source}",
            weights_sha256(self.network),
            licence_of(source),
            "promptable" if config.model_type in SEGMENT_ANYTHING else "dense",
            main or list(blank)[-1],
            f"side={self.input.side}",
        )

    def _choose_input(self, source: str, side: int | None) -> Input:
        said = preprocessor_of(source)
        fixed = getattr(self.vision, "image_size", None) or _nested_side(self.vision)
        wanted = side or side_in(said) or fixed or DEFAULT_SIDE
        if not self.free and fixed:
            if side not in (None, fixed):
                raise ConfigError(f"side={side}, expected {fixed}, the only one that {source} takes.")
            wanted = fixed
        mean, std = said.get("image_mean") or IMAGENET_MEAN, said.get("image_std") or IMAGENET_STD
        return Input(int(wanted), tuple(mean), tuple(std))

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices feature_width rows columns"]]:
        """See `FeatureExtractor.features`."""
        images, side = three_channels(slices), self.input.side
        shown = fitted_sides(images.shape[2:], side, self.patch if self.free else 1)
        sides = shown if self.free else (side, side)

        def run(part: Tensor) -> dict[str, Tensor]:
            image = normalised(resized(part.to(self.device), shown), self.input.mean, self.input.std)
            maps = self.run(self.network, padded(image, sides), self.patch)
            named = sorted(maps, key=lambda m: -m.shape[2])
            return {f"stride{round(sides[0] / m.shape[2])}": content(m, shown, sides) for m in named}

        return in_chunks(images, SLICES_AT_ONCE, run)


def _tokens(network: nn.Module, image: Tensor, patch: int) -> list[Tensor]:
    """Patch tokens (batch, prefix + tokens, width) on their grid; maps are returned as they are."""
    last = getattr(network(pixel_values=image), "last_hidden_state", None)
    if last is None or last.dim() not in (3, 4):
        raise ConfigError(f"{type(network).__name__} gives no feature map, expected tokens or a map.")
    if last.dim() == 4:
        return [last]
    rows, columns = (n // patch for n in image.shape[2:])
    prefix = last.shape[1] - rows * columns
    if prefix < 0:
        raise ConfigError(
            f"{type(network).__name__} gives {last.shape[1]} tokens, expected at least {rows} x {columns}, one "
            "per patch."
        )
    return [last[:, prefix:].transpose(1, 2).unflatten(2, (rows, columns))]


_FORWARD: dict[str, Callable[[Any, Tensor, int], list[Tensor]]] = {
    "sam": lambda network, image, _: [network.vision_encoder(image).last_hidden_state],
    "sam2": lambda network, image, _: list(network.vision_encoder(image).fpn_hidden_states),
    "sam2_video": lambda network, image, _: list(network.vision_encoder(image).fpn_hidden_states),
}


def _nested_side(vision: Any) -> int | None:
    size = getattr(getattr(vision, "backbone_config", None), "image_size", None)
    return int(size[0] if isinstance(size, list | tuple) else size) if size else None
