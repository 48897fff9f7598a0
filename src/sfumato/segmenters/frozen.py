"""A network that can only be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError, SfumatoError, TapError
from ..types import Batch, Segmentation
from .auto_taps import choose_taps
from .presets import TAP_PRESETS
from .probe import blank_image, main_logits, network_device, network_dtype, network_failure, probe_sides
from .spec import SegmenterSpec
from .taps import captured, check_taps


class Condition(Protocol):
    """What a network is told besides the image."""

    @property
    def key(self) -> str:
        """Identity: two conditions of the same key tell the same."""
        ...

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Further keyword arguments of the network's forward, from the batch's prompt; none without one.

        Raises:
            InputError: a prompt of another kind, or another number of prompts than images.
        """
        ...


class FrozenSegmenter:
    """A network that is only ever run: in eval mode, without gradient, its weights and statistics untouched.

    Several segmenters may share a network, in one thread at a time.

    Args:
        module: the network; it is put in eval mode and its parameters stop requiring gradients.
        spec: its passport.
        condition: for networks that are told something besides the image; the prompts of batches go unread without.

    Attributes:
        widths: channels of each tap.

    Raises:
        TapError: a tap that is not there, did not fire, or is not shaped (batch, width, *grid).
        ConfigError: a network that does not fit the spec, or that changes its own buffers when it predicts.
    """

    def __init__(self, module: nn.Module, spec: SegmenterSpec, condition: Condition | None = None):
        check_taps(module, spec.taps)
        self.module = module.eval()
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        self.spec, self.condition = spec, condition
        self._copies: set[str] = set()
        self._probe_grid = spec.window
        self.widths = {tap: value.shape[1] for tap, value in self._first_look().features.items()}

    def to(self, device: torch.device | str) -> FrozenSegmenter:
        """Move the network."""
        self.module.to(device)
        return self

    def segment(self, batch: Batch) -> Segmentation:
        """Raw logits and tapped features, without gradient, in float32 on the network's device.

        A tap that a later layer overwrites is noticed, and the network is run once more with a copy of that
        tap; from then on it is copied at once.

        Raises:
            InputError: wrong number of channels, axes, sides that the divisor does not divide, or a prompt that the
                condition does not take.
            ConfigError: logits of another shape than the spec says.
        """
        _check_image(batch.image, self.spec)
        image = batch.image.to(network_device(self.module))
        # Normal mode even where the caller has inference mode on: only there do tensors count their changes.
        with torch.inference_mode(False), torch.no_grad():
            output, features = self._run(image.to(network_dtype(self.module)), self._told(batch))
            logits = main_logits(output, self.spec.logit_channels, image.shape[2:])
            found = {"image": image, "logits": logits, **features}
            return Segmentation(logits, self.spec.link, {tap: found[tap].float() for tap in self.spec.taps})

    def _told(self, batch: Batch) -> dict[str, Tensor]:
        """What the condition says, on the network's device and in its floating type."""
        told = self.condition(batch) if self.condition is not None else {}
        device, dtype = network_device(self.module), network_dtype(self.module)
        return {k: v.to(device, dtype if v.is_floating_point() else v.dtype) for k, v in told.items()}

    def _run(self, image: Tensor, told: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        while True:
            self.module.eval()
            with captured(self.module, self.spec.taps, self._copies) as seen:
                output = self.module(image.clone(), **told)  # a network may write over its input
            overwritten = seen.overwritten()
            if not overwritten:
                return output, seen.tensors
            self._copies |= overwritten

    def _first_look(self) -> Segmentation:
        """A dry run that checks what the spec says."""
        before = {name: buffer.clone() for name, buffer in self.module.named_buffers()}
        segmentation = self._dry_run()
        for name, buffer in self.module.named_buffers():
            if not torch.allclose(buffer, before[name], rtol=0, atol=0, equal_nan=True):
                buffer.copy_(before[name])
                raise ConfigError(
                    f"The network changes its buffer {name!r} when it predicts, expected one that stays."
                )
        for tap, value in segmentation.features.items():
            if value.dim() != self.spec.spatial_dims + 2 or len(value) != 1:
                raise TapError(
                    f"The tap {tap!r} has the shape {tuple(value.shape)} for one image, expected (1, "
                    "width, *grid) "
                    f"with {self.spec.spatial_dims} grid axes; tap a layer that returns a feature "
                    "map, not tokens."
                )
        return segmentation

    def _dry_run(self) -> Segmentation:
        failure: ConfigError | None = None
        # Networks of a fixed size (position embeddings) take nothing but the window.
        for grid in dict.fromkeys((probe_sides(self.spec), self.spec.window)):
            image = blank_image(self.module, self.spec.channels, grid)
            try:
                self._probe_grid = grid
                return self.segment(Batch(image))
            except SfumatoError:
                raise
            except Exception as error:  # networks raise whatever their libraries raise
                failure = network_failure(image, error)
        assert failure is not None
        raise failure

    def blank_batch(self) -> Batch:
        """A small image that the network takes, to learn the shapes of what comes out."""
        return Batch(blank_image(self.module, self.spec.channels, self._probe_grid))

    def blank_image(self) -> Tensor:
        """A small image that the network takes, (1, channels, *grid)."""
        return blank_image(self.module, self.spec.channels, self._probe_grid)

    def auto_taps(self) -> tuple[str, ...]:
        """The taps that `auto` means for this network: its own attribute `taps`, or found by a dry run."""
        declared = getattr(self.module, "taps", None)
        if isinstance(declared, tuple):
            return declared
        return choose_taps(self.module, self.blank_batch().image, self.spec.logit_channels)

    def with_taps(self, taps: str | Sequence[str]) -> FrozenSegmenter:
        """The same network, tapped elsewhere.

        Args:
            taps: names, `auto`, or a name in `TAP_PRESETS`.
        """
        spec = replace(self.spec, taps=named_taps(taps) or self.auto_taps())
        return FrozenSegmenter(self.module, spec, self.condition)


def named_taps(taps: str | Sequence[str]) -> tuple[str, ...] | None:
    """Names of taps; None for `auto`."""
    if not isinstance(taps, str):
        return tuple(taps)
    if taps != "auto" and taps not in TAP_PRESETS:
        raise TapError(
            f"taps={taps!r}, expected 'auto', {', '.join(map(repr, TAP_PRESETS))} or a list of names."
        )
    return TAP_PRESETS.get(taps)


def auto_taps(module: nn.Module, spec: SegmenterSpec) -> tuple[str, ...]:
    """The taps that `taps="auto"` means for a network."""
    return FrozenSegmenter(module, replace(spec, taps=())).auto_taps()


def _check_image(image: Tensor, spec: SegmenterSpec) -> None:
    if image.dim() != spec.spatial_dims + 2:
        raise InputError(
            f"An image batch of shape {tuple(image.shape)}, expected (batch, {spec.channels}, "
            f"{'H, W' if spec.spatial_dims == 2 else 'D, H, W'})."
        )
    if image.shape[1] != spec.channels:
        raise InputError(f"{image.shape[1]} image channels, expected {spec.channels}.")
    padded = tuple(max(d, -(-n // d) * d) for n, d in zip(image.shape[2:], spec.divisors, strict=True))
    if padded != tuple(image.shape[2:]):
        raise InputError(
            f"Image sides {tuple(image.shape[2:])} are not multiples of {spec.divisor}; pad to {padded}."
        )
