"""Networks by name: two of ours, and MONAI's DynUNet as SegWithU's experiments used it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from ..errors import MissingExtraError, UnknownNameError
from .resunet import ResidualUNet

DYNUNET_WIDTHS = (32, 64, 128, 256, 320)

TAP_PRESETS: dict[str, tuple[str, ...]] = {
    "segwithu": ("upsamples.1.conv_block:input", "upsamples.2.conv_block:input", "output_block:input"),
}
"""Name -> taps. `segwithu`: what SegWithU's experiments tap in a five-level DynUNet, coarsest first: two
concatenations of the upsampled decoder with the encoder's skip (S/4, S/2) and the classifier's input (S)."""


def resunet2d(channels: int, classes: int, **arguments: Any) -> nn.Module:
    """Our 2-D residual U-Net, 1.3 million parameters."""
    return ResidualUNet(2, channels, classes, **arguments)


def resunet3d(channels: int, classes: int, **arguments: Any) -> nn.Module:
    """Our 3-D residual U-Net, 1.2 million parameters."""
    return ResidualUNet(3, channels, classes, **arguments)


def dynunet2d(channels: int, classes: int, **arguments: Any) -> nn.Module:
    """MONAI's residual DynUNet in 2-D, five levels."""
    return _dynunet(2, channels, classes, **arguments)


def dynunet3d(channels: int, classes: int, **arguments: Any) -> nn.Module:
    """MONAI's residual DynUNet in 3-D, five levels: the backbone of SegWithU's experiments, 16.7 million
    parameters."""
    return _dynunet(3, channels, classes, **arguments)


def _dynunet(
    dims: int,
    channels: int,
    classes: int,
    widths: tuple[int, ...] = DYNUNET_WIDTHS,
    deep_supervision: bool = True,
) -> nn.Module:
    try:
        from monai.networks.nets import DynUNet
    except ImportError as error:
        raise MissingExtraError("monai", "train", f"the preset dynunet{dims}d") from error
    levels = len(widths)
    network = DynUNet(
        spatial_dims=dims,
        in_channels=channels,
        out_channels=classes,
        kernel_size=[3] * levels,
        strides=[1] + [2] * (levels - 1),
        upsample_kernel_size=[2] * (levels - 1),
        filters=list(widths),
        norm_name=("INSTANCE", {"affine": True}),
        act_name=("leakyrelu", {"inplace": True, "negative_slope": 0.01}),
        deep_supervision=deep_supervision,
        deep_supr_num=min(2, levels - 2),
        res_block=True,
    )
    network.divisor = 2 ** (levels - 1)  # type: ignore[assignment]
    return network


PRESETS: dict[str, Callable[..., nn.Module]] = {
    "resunet2d": resunet2d,
    "resunet3d": resunet3d,
    "dynunet2d": dynunet2d,
    "dynunet3d": dynunet3d,
}
"""Name -> function(channels, classes, **arguments) -> network with an integer `divisor`."""

PRESET_DIMS = {"resunet2d": 2, "resunet3d": 3, "dynunet2d": 2, "dynunet3d": 3}


def build_preset(name: str, channels: int, classes: int, **arguments: Any) -> nn.Module:
    """Build a network by its preset's name, with fresh weights.

    Raises:
        UnknownNameError: no such preset.
        MissingExtraError: a DynUNet without MONAI.

    Example:
        >>> build_preset("resunet2d", 1, 2, widths=(4, 8)).divisor
        2
    """
    if name not in PRESETS:
        raise UnknownNameError("preset", name, PRESETS)
    return PRESETS[name](channels, classes, **arguments)
