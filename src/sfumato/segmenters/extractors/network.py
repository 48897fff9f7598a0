"""A segmenter's own taps and logits, or any torch module's taps, as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError, InputError, UnknownNameError
from ...types import Batch
from ..frozen import FrozenSegmenter
from ..inputs import check_side, check_slices, content, fitted_sides, in_chunks, normalised, padded, resized
from ..load import load_network, rebuild
from ..pinned import weights_sha256
from ..probe import network_device
from ..spec import GREY_WEIGHTS, SegmenterSpec
from ..state import fill, read_object, read_state
from ..taps import captured, check_taps
from .extractor import ExtractorCard

SLICES_AT_ONCE = 4
SMALLEST_DEVIATION = 1e-6


class SegmenterExtractor:
    """The taps and the logits of a 2-D segmenter, slice by slice; a volume for a 3-D one goes to `segmenter_maps`.

    A slice is normalised as the segmenter's passport says, but alone: `zscore` uses the slice's own mean and
    deviation, as slices must not see each other. It is padded to the divisor; one that is larger than the window
    is scaled down to fit.

    Args:
        segmenter: of two dimensions, one or three channels.
        name: on the card.
        main: a tap, or `logits`.

    Raises:
        ConfigError: a 3-D segmenter, another number of channels, `fixed` normalisation (the file's intensities are
            no longer known), or an unknown map.
    """

    def __init__(self, segmenter: FrozenSegmenter, name: str = "segmenter", main: str = "logits"):
        spec = segmenter.spec
        if spec.spatial_dims != 2 or spec.channels not in (1, 3):
            raise ConfigError(
                f"A {spec.spatial_dims}-D segmenter of {spec.channels} channels, expected a 2-D one of 1 or 3 for "
                "slices; `sfumato fit sample_difficulty` scores any segmenter's own logits, and segmenter_maps gives "
                "them for a whole prepared image."
            )
        if spec.preprocessing.normalisation == "fixed":
            raise ConfigError(
                f"normalisation='fixed' of {name} needs the file's intensities, expected zscore, unit or none; give "
                "whole prepared images to segmenter_maps."
            )
        if main not in (*spec.taps, "logits"):
            raise UnknownNameError("feature map", main, (*spec.taps, "logits"))
        self.segmenter = segmenter
        settings = (
            f"normalisation={spec.preprocessing.normalisation},window={'x'.join(map(str, spec.window))}"
        )
        self.card = ExtractorCard(
            name, weights_sha256(segmenter.module), "unknown", "segmenter", main, settings
        )

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices feature_width rows columns"]]:
        """See `FeatureExtractor.features`: the taps, then `logits`."""
        check_slices(slices)
        spec = self.segmenter.spec
        excess = max(n / w for n, w in zip(slices.shape[2:], spec.window, strict=True))
        image = _with_channels(slices.float(), spec.channels)
        if excess > 1:
            longest = int(max(slices.shape[2:]) / excess)
            image = resized(image, fitted_sides(slices.shape[2:], longest))
        if spec.preprocessing.normalisation == "zscore":
            image = image - image.mean(dim=(1, 2, 3), keepdim=True)
            deviation = image.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            image = image / deviation.clamp(min=SMALLEST_DEVIATION)
        return _run(self.segmenter, image)


def segmenter_maps(
    segmenter: FrozenSegmenter, image: Float[Tensor, "channels *grid"]
) -> dict[str, Float[Tensor, "slices feature_width rows columns"]]:
    """Taps and raw logits of one whole image, its first grid axis as slices; a picture is one slice.

    Args:
        segmenter: 2-D or 3-D. A 2-D one walks through a volume slice by slice.
        image: normalised for the segmenter, on its grid.

    Raises:
        InputError: an image without a grid of two or three axes, or one larger than the network's window, whose
            logits must be blended from windows instead.

    Example:
        >>> from sfumato.segmenters import build_preset, wrap
        >>> network = wrap(build_preset("resunet3d", 1, 3, widths=(4, 8)), 3, spatial_dims=3, window=(16, 16, 16))
        >>> {name: tuple(m.shape) for name, m in segmenter_maps(network, torch.zeros(1, 9, 16, 12)).items()}
        {'encoder.1': (5, 8, 8, 6), 'classifier:input': (9, 4, 16, 12), 'logits': (9, 3, 16, 12)}
    """
    spec, grid = segmenter.spec, tuple(image.shape[1:])
    if len(grid) not in (2, 3) or len(grid) < spec.spatial_dims:
        raise InputError(
            f"An image of shape {tuple(image.shape)}, expected (channels, *grid) for this network."
        )
    if any(n > w for n, w in zip(grid[-spec.spatial_dims :], spec.window, strict=True)):
        raise InputError(
            f"A grid of {grid}, expected at most the network's window {spec.window}; run it by windows instead."
        )
    if len(grid) > spec.spatial_dims:
        return _run(segmenter, image.transpose(0, 1).float())
    maps = _run(segmenter, image[None].float())
    return maps if len(grid) == 2 else {name: m[0].transpose(0, 1).contiguous() for name, m in maps.items()}


def _run(segmenter: FrozenSegmenter, images: Float[Tensor, "batch channels *grid"]) -> dict[str, Tensor]:
    """Taps and logits of images padded to the divisor, cut to the part that shows them."""
    shown = images.shape[2:]
    sides = [-(-n // d) * d for n, d in zip(shown, segmenter.spec.divisors, strict=True)]

    def run(part: Tensor) -> dict[str, Tensor]:
        found = segmenter.segment(Batch(padded(part, sides)))
        named = {**found.features, "logits": found.logits}
        return {name: content(value, shown, sides) for name, value in named.items()}

    return in_chunks(images, SLICES_AT_ONCE, run)


def _with_channels(slices: Tensor, channels: int) -> Tensor:
    if slices.shape[1] == channels:
        return slices
    if channels == 3:
        return slices.expand(-1, 3, -1, -1)
    return (slices * slices.new_tensor(GREY_WEIGHTS).reshape(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def read_segmenter(source: str, allow_pickle: bool = False, **described: Any) -> FrozenSegmenter:
    """A segmenter from a folder of ours, or from what `sfumato.segmenters.load.load_network` reads.

    Raises:
        StorageError, ConfigError, TapError, MissingExtraError: see there.
    """
    folder = Path(source)
    if not (folder / "segmenter.json").is_file():
        return load_network(source, allow_pickle=allow_pickle, **described)
    if described:
        raise ConfigError(
            f"{source}: a saved segmenter says its {', '.join(described)} itself; leave that out."
        )
    spec = SegmenterSpec.from_json(read_object(folder / "segmenter.json").get("spec", {}))
    module = rebuild(spec, folder, allow_pickle)
    if not isinstance(module, torch.jit.ScriptModule):
        fill(module, read_state(folder / "weights.safetensors"), folder)
    return FrozenSegmenter(module, spec)


class ModuleExtractor:
    """Named taps of any torch network of pictures, which takes (slices, 3, height, width).

    Args:
        module: the network; it is put in eval mode and frozen.
        taps: dotted names of submodules that give (slices, width, rows, columns), fine to coarse.
        side: the longer side of its input, in pixels; the other one is the nearest multiple.
        multiple: what both sides must divide by.
        name: on the card.

    Raises:
        TapError: a name that the network does not have.
        ConfigError: a side that `multiple` does not divide.
    """

    def __init__(
        self,
        module: nn.Module,
        taps: Sequence[str],
        side: int = 224,
        multiple: int = 32,
        name: str = "module",
    ):
        check_taps(module, taps)
        check_side(side, multiple)
        self.module, self.taps = module.eval().requires_grad_(False), tuple(taps)
        self.side, self.multiple = side, multiple
        settings = f"side={side},multiple={multiple}"
        self.card = ExtractorCard(name, weights_sha256(module), "unknown", "dense", self.taps[-1], settings)

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices feature_width rows columns"]]:
        """See `FeatureExtractor.features`: the taps, normalised by ImageNet's statistics."""
        check_slices(slices)
        sides = fitted_sides(slices.shape[2:], self.side, self.multiple)
        device = network_device(self.module)

        def run(part: Tensor) -> dict[str, Tensor]:
            image = normalised(resized(part.float().expand(-1, 3, -1, -1), sides))
            with captured(self.module, self.taps, self.taps) as seen:
                self.module(image.to(device))
            return seen.tensors

        return in_chunks(slices, SLICES_AT_ONCE, run)
