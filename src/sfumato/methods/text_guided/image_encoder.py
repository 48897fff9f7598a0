"""Image encoders by name: features of strides 4, 8, 16 and 32, for any number of channels and any size.

They do not normalise: an image comes as the pipeline gives it. The paper (arXiv 2602.14498) trains the whole encoder,
from ImageNet's weights, on images standardised one by one; nothing is frozen here either.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError, UnknownNameError
from ...segmenters.efficientnet import EfficientNet, load_lite0
from ...segmenters.state import fill
from .convnext import ConvNext, published_names
from .published import read_weights

NAMES = "convnext_tiny", "efficientnet_lite0"
STRIDES = 4, 8, 16, 32
RANDOM = "random"


class Lite0Encoder(nn.Module):
    """EfficientNet-Lite0's features of strides 4 to 32; its own padding takes any size, ceil(side / stride) per axis.

    Args:
        network: without a classifier.

    Attributes:
        widths: of the features, fine to coarse.

    Example:
        >>> import torch
        >>> encoder = Lite0Encoder(EfficientNet(channels=1)).eval()
        >>> [tuple(x.shape) for x in encoder(torch.zeros(1, 1, 64, 50))]
        [(1, 24, 16, 13), (1, 40, 8, 7), (1, 112, 4, 4), (1, 320, 2, 2)]
    """

    def __init__(self, network: EfficientNet):
        super().__init__()
        self.network = network
        self.widths = tuple(network.widths[stride] for stride in STRIDES)

    def forward(
        self, image: Float[Tensor, "batch channels height width"]
    ) -> list[Float[Tensor, "batch stage_width rows columns"]]:
        """Fine to coarse."""
        found = self.network(image)
        return [found[stride] for stride in STRIDES]


def build_image_encoder(
    name: str, weights: str | None = None, channels: int = 3, allow_pickle: bool = False
) -> ConvNext | Lite0Encoder:
    """An image encoder, in train mode and with all parameters trainable.

    Args:
        name: `convnext_tiny` (the paper's, 27.8 million parameters) or `efficientnet_lite0` (3.0 million).
        weights: `random`, or for ConvNeXt a folder or OWNER/NAME on the hub, such as `facebook/convnext-tiny-224`
            (Apache-2.0). By default those that come with the installation: ImageNet's for EfficientNet-Lite0, and
            none, so random ones, for ConvNeXt.
        channels: of the image; see `adapt_to_channels` for other than three with published weights.
        allow_pickle: read ConvNeXt's weights that are there as `pytorch_model.bin` only, with torch's restricted
            unpickler.

    Raises:
        UnknownNameError: another name.
        ConfigError: no channels, or weights that the encoder does not take.
        MissingExtraError: EfficientNet-Lite0's weights are not installed.
        StorageError: weights that are missing or do not fit.

    Example:
        >>> build_image_encoder("efficientnet_lite0", weights="random", channels=2).widths
        (24, 40, 112, 320)
    """
    if name not in NAMES:
        raise UnknownNameError("image encoder", name, NAMES)
    if channels < 1:
        raise ConfigError(f"channels={channels}, expected at least 1.")
    if name == "efficientnet_lite0":
        if weights not in (None, RANDOM):
            raise ConfigError(
                f"weights={weights!r} for efficientnet_lite0, expected None for those of its package, or 'random'."
            )
        network = EfficientNet(channels) if weights else load_lite0()
        adapt_to_channels(network.stem.convolution, channels)
        return Lite0Encoder(network).train()
    encoder = ConvNext(channels if weights in (None, RANDOM) else 3)
    if weights not in (None, RANDOM):
        state, place = read_weights(weights, allow_pickle)
        fill(encoder, published_names(state, place), place)
        adapt_to_channels(encoder.stem, channels)
    return encoder.train()


def adapt_to_channels(convolution: nn.Conv2d, channels: int) -> None:
    """Make a convolution take so many image channels, in place; it stays as it is where it does already.

    Each of n channels gets the mean filter of the old ones times their number over n. So one channel gives what the
    same channel repeated gave, at a third of the cost; n equal channels give that too; and no channel of an image
    of several sequences is favoured for its place in the file, as it would be if filters were repeated in turn.

    Example:
        >>> stem = nn.Conv2d(3, 8, 3)
        >>> adapt_to_channels(stem, 2)
        >>> stem.weight.shape
        torch.Size([8, 2, 3, 3])
    """
    if convolution.in_channels != channels:
        mean = convolution.weight.detach().mean(dim=1, keepdim=True)
        scaled = mean * (convolution.in_channels / channels)
        convolution.weight = nn.Parameter(scaled.expand(-1, channels, -1, -1).contiguous())
        convolution.in_channels = channels
