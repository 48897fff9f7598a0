"""A trained text-guided network as a frozen segmenter that can be saved and built again.

Das et al., arXiv 2602.14498, see every image scaled to 224 x 224, its sides' ratio not kept. So does this: a word such
as "left" is about the whole image, which therefore goes through the network in one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import ConfigError, StorageError, UnknownNameError
from ...segmenters.frozen import FrozenSegmenter
from ...segmenters.spec import Preprocessing, SegmenterSpec
from ...types import Link
from .condition import SentenceCondition
from .config import TextGuidedConfig
from .image_encoder import RANDOM, build_image_encoder
from .model import TextGuidedNetwork
from .text_encoder import TextEncoder, build_text_encoder

SOURCE = "text_guided"
"""`SegmenterSpec.source` of these networks."""
SIDE = 224
LARGEST_SIDE = 4096
"""Of an image; larger ones would be cut into windows, of which no sentence is true."""


def scaled(
    values: Float[Tensor, "batch channels rows columns"], size: Sequence[int]
) -> Float[Tensor, "batch channels *size"]:
    """Scale linearly to a grid of (rows, columns); where it shrinks, over all pixels that fall together.

    Example:
        >>> import torch
        >>> scaled(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), (1, 1)).item()
        1.5
    """
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)


class WholeImageNetwork(nn.Module):
    """Runs a network on images scaled to one size; its logits come back on the image's grid.

    Args:
        network: that was trained on such images.
        side: of its images, pixels.

    Attributes:
        divisor: images of any sides are taken.
        taps: what `auto` taps: the decoder, from where all words have come in. A dry run on a small image would take
            features of the scaled one for finer than the image.
    """

    divisor = 1
    taps = ("network.decoder.1", "network.decoder.2", "network.upsample")

    def __init__(self, network: nn.Module, side: int = SIDE):
        super().__init__()
        if side < 32:
            raise ConfigError(f"side={side}, expected at least 32 pixels, the coarsest features' stride.")
        self.network, self.side = network, side

    def forward(
        self, image: Float[Tensor, "batch channels rows columns"], **told: Tensor
    ) -> Float[Tensor, "batch classes rows columns"]:
        """Logits; `told` is handed on to the network."""
        logits = self.network(scaled(image, (self.side, self.side)), **told)
        return scaled(logits, image.shape[2:])


def make_segmenter(
    network: TextGuidedNetwork,
    encoder: TextEncoder,
    classes: Sequence[str],
    label_values: Sequence[int] = (),
    side: int = SIDE,
    preprocessing: Preprocessing | None = None,
) -> FrozenSegmenter:
    """A frozen segmenter that takes a `TextPrompt` with one sentence an image, or none.

    Args:
        network: trained; its config says how to build it again.
        encoder: the language model of the training. It is saved by name alone; another one of that name is refused.
        classes: names, background first.
        label_values: value of each class in label files.
        side: images are scaled to it.
        preprocessing: how file intensities become network input.

    Raises:
        ConfigError: an encoder of another length or width, or another number of classes, than the network's.
    """
    config = network.config
    if (encoder.length, encoder.width) != (config.text_length, network.text_width):
        raise ConfigError(
            f"A text encoder of {encoder.length} tokens, {encoder.width} wide, expected {config.text_length} and "
            f"{network.text_width}, as the network was built for."
        )
    if len(classes) != max(2, config.classes):
        raise ConfigError(
            f"{len(classes)} class names {tuple(classes)}, expected {max(2, config.classes)}, background first."
        )
    spec = SegmenterSpec(
        source=SOURCE,
        arguments={"config": asdict(config), "side": side, "text_encoder_key": encoder.key},
        spatial_dims=2,
        channels=config.channels,
        classes=tuple(classes),
        label_values=tuple(label_values),
        link=Link.SIGMOID if config.classes == 1 else Link.SOFTMAX,
        window=(LARGEST_SIDE, LARGEST_SIDE),
        preprocessing=preprocessing or Preprocessing(),
    )
    return FrozenSegmenter(WholeImageNetwork(network, side), spec, SentenceCondition(encoder))


def rebuild_segmenter(spec: SegmenterSpec) -> FrozenSegmenter:
    """The segmenter of a passport, with fresh weights in the network and the text encoder of its name.

    Raises:
        StorageError: settings that this version does not know, or a text encoder that has changed since the training.
        MissingExtraError: the text encoder's package is not installed.
    """
    try:
        config = TextGuidedConfig(**spec.arguments["config"])
        side, key = int(spec.arguments["side"]), str(spec.arguments["text_encoder_key"])
    except (KeyError, TypeError, ValueError, ConfigError, UnknownNameError) as error:
        raise StorageError(f"Settings of a text-guided network with {error!r}; train it again.") from error
    encoder = build_text_encoder(config.text_encoder, config.text_length)
    if encoder.key != key:
        raise StorageError(
            f"The text encoder {config.text_encoder} is not the one of the training, expected the same weights and "
            "word pieces; install that version again, or train again."
        )
    image_encoder = build_image_encoder(config.image_encoder, RANDOM, config.channels)
    network = TextGuidedNetwork(image_encoder, config, encoder.width)
    return FrozenSegmenter(WholeImageNetwork(network, side), spec, SentenceCondition(encoder))
