"""A network and its noise head in one module, for our training loop; the head goes when the network is saved."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import InputError
from ...segmenters.auto_taps import choose_taps
from ...segmenters.taps import captured
from ...types import Batch, Link
from ..backbone import resize_logits, supervised_heads
from ..loop import StepLoss
from .loss import DuoLoss

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}


class DuoNetwork(nn.Module):
    """Segments as `network` does; in training, a 1-wide convolution beside its classifier estimates label noise.

    The noise head reads what the network's last convolution reads, without gradient: the features stay what the
    segmentation makes of them, and `network` stays the network that it was, weights and names.

    Args:
        network: (batch, channels, *grid) to logits; lists and stacks of deep supervision are understood.
        image: one image on a grid that the network takes, to find its last convolution.
        loss: says how many channels the head has.

    Example:
        >>> from sfumato.segmenters import build_preset
        >>> from sfumato.training.duo import DuoLoss, DuoNetwork
        >>> network = build_preset("resunet2d", 1, 3, widths=(4, 8))
        >>> module = DuoNetwork(network, torch.zeros(1, 1, 8, 8), DuoLoss(classes=2, samples=5))
        >>> heads, noise = module.with_noise(torch.zeros(1, 1, 8, 8))
        >>> heads[0].shape, noise.shape
        (torch.Size([1, 3, 8, 8]), torch.Size([1, 2, 8, 8]))
    """

    def __init__(self, network: nn.Module, image: Float[Tensor, "batch channels *grid"], loss: DuoLoss):
        super().__init__()
        self.network = network
        self.loss = loss
        self._dims = image.dim() - 2
        self._tap = ""
        self.noise_head: nn.Module | None = None
        channels = loss.config.noise_channels(loss.classes)
        if channels:
            width = self._find_tap(image)
            self.noise_head = CONVOLUTION[self._dims](width, channels, 1)

    def forward(
        self, image: Float[Tensor, "batch channels *grid"]
    ) -> Tensor | list[Tensor] | tuple[Tensor, ...]:
        """What the network alone returns."""
        return self.network(image)

    def with_noise(self, image: Float[Tensor, "batch channels *grid"]) -> tuple[list[Tensor], Tensor | None]:
        """Logits of every head, finest first, and the noise logits where there is a noise head."""
        taps = (self._tap,) if self._tap not in ("", "logits") else ()
        with captured(self.network, taps) as seen:
            heads = supervised_heads(self.network(image), self._dims)
        if self.noise_head is None:
            return heads, None
        return heads, self.noise_head(seen.tensors.get(self._tap, heads[0]).detach())

    def _find_tap(self, image: Tensor) -> int:
        """Remember where the last convolution reads, and return how many channels come in there."""
        was_training, outputs = self.network.training, self.loss.classes + (self.loss.link is Link.SOFTMAX)
        self.network.eval()  # a dry run must not move the statistics of normalisation
        try:
            self._tap = choose_taps(self.network, image, outputs)[-1]
            with (
                torch.no_grad(),
                captured(self.network, () if self._tap == "logits" else (self._tap,)) as seen,
            ):
                logits = supervised_heads(self.network(image), self._dims)[0]
        finally:
            self.network.train(was_training)
        if logits.shape[1] != outputs:
            raise InputError(f"The network gives {logits.shape[1]} logits, expected {outputs} for the loss.")
        return seen.tensors.get(self._tap, logits).shape[1]


def duo_step(steps: int) -> StepLoss:
    """The step loss of a `DuoNetwork` for `training.loop.train`.

    Args:
        steps: of the whole training, by which the warm-up of the correction is laid out.
    """

    def loss(module: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        assert isinstance(module, DuoNetwork)
        assert batch.label is not None
        heads, noise = module.with_noise(batch.image)
        target = batch.label.unsqueeze(1)
        fine, *coarser = (resize_logits(head, target) for head in heads)
        noise = None if noise is None else resize_logits(noise, target)
        coarse = [(head, batch.label) for head in coarser]
        return module.loss(fine, batch.label, noise, batch.index, step / steps, coarse)

    return loss
