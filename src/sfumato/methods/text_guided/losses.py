"""The SEU loss of text-guided segmentation: overlap, spectrum and a term about the network's doubt, from logits.

Das et al., arXiv 2602.14498: L = L_Dice + 0.3 L_F + 0.1 L_E; see `uncertainty_loss` for the forms of the last one.

One logit is the foreground's, more are all classes, background first. Everything runs in float32 (float64 where the
logits are), whatever the autocast around it: in half precision ln(p + 1e-8) is ln 0, and an FFT wants powers of two.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...errors import ConfigError, InputError, UnknownNameError
from .uncertainty_loss import TERMS, UncertaintyTerm, log_probability, uncertainty_loss


def class_planes(
    label: Int[Tensor, "batch *grid"], channels: int
) -> tuple[Float[Tensor, "batch channels *grid"], Bool[Tensor, "batch *grid"]]:
    """One plane of 0 and 1 per channel, and which voxels are known; one channel is class 1, more are classes 0, 1, ...

    Args:
        label: class per voxel, -1 where unknown: 0 in all planes.
        channels: of the logits.

    Raises:
        InputError: a class that the channels do not have.

    Example:
        >>> planes, known = class_planes(torch.tensor([[0, 1, -1]]), 1)
        >>> planes.tolist(), known.tolist()
        ([[[0.0, 1.0, 0.0]]], [[True, True, False]])
    """
    classes = max(channels, 2)
    if label.numel() and (int(label.min()) < -1 or int(label.max()) >= classes):
        raise InputError(
            f"Labels from {int(label.min())} to {int(label.max())}, expected -1 (unknown) or one of the {classes} "
            f"classes of {channels} channel(s); map the labels, or build the network with more classes."
        )
    numbers = torch.arange(classes - channels, classes, device=label.device)
    planes = label.unsqueeze(1) == numbers.reshape(-1, *[1] * (label.dim() - 1))
    return planes.float(), label >= 0


def dice_loss(
    probability: Float[Tensor, "batch channels *grid"],
    target: Float[Tensor, "batch channels *grid"],
    known: Bool[Tensor, "batch *grid"] | None = None,
    smoothing: float = 1.0,
) -> Float[Tensor, ""]:
    """1 - mean over rows and channels of (2 sum p y + s) / (sum p + sum y + s), sums over known voxels; in [0, 1].

    Arguments are as in `spectral_loss`. The published smoothing s is 1e-6: for an empty target the gradient is then
    either dead (about -1e-6 where sum p = 1) or explosive (-2.5e5 where sum p = 1e-6); one voxel keeps it tame.

    Example:
        >>> half, left = torch.full((1, 1, 4, 4), 0.5), torch.eye(4).repeat(1, 1, 1, 1)
        >>> round(dice_loss(half, left, smoothing=0.0).item(), 6)  # 1 - 2 * 2 / (8 + 4)
        0.666667
    """
    over = tuple(range(2, probability.dim()))
    counted = _counted(probability, known)
    p, y = probability * counted, target * counted
    return 1 - ((2 * (p * y).sum(over) + smoothing) / (p.sum(over) + y.sum(over) + smoothing)).mean()


def spectral_loss(
    probability: Float[Tensor, "batch channels *grid"],
    target: Float[Tensor, "batch channels *grid"],
    known: Bool[Tensor, "batch *grid"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over rows, channels and frequencies of (|FFT p| - |FFT y|)^2, orthonormal over all grid axes; in [0, 1].

    It never exceeds the mean of (p - y)^2 (Parseval), and sees neither a circular shift nor a point reflection: it
    compares area (the zero frequency adds (mean p - mean y)^2) and texture, and cannot replace an overlap. Half of
    the spectrum of a real map is the other half's mirror image, so only one is computed, and counted twice.

    Args:
        probability: of the channels, in [0, 1].
        target: 0 or 1, or soft.
        known: voxels that count; the others are 0 in both maps, and the mean is over known voxels in place of all
            frequencies, so that the bound above holds over known voxels. All by default.

    Example:
        >>> y = torch.eye(4).repeat(1, 1, 1, 1)
        >>> spectral_loss(y.roll(1, dims=-1), y).item() < 1e-12, round(spectral_loss(1 + 0 * y, y).item(), 6)
        (True, 0.75)
    """
    grid = tuple(range(2, probability.dim()))
    counted = _counted(probability, known)
    found, wanted = (
        torch.fft.rfftn(x * counted, dim=grid, norm="ortho").abs() for x in (probability, target)
    )
    width = probability.shape[-1]
    times = torch.full((found.shape[-1],), 2.0, dtype=found.dtype, device=found.device)
    times[0] = 1.0
    if width % 2 == 0:
        times[-1] = 1.0
    squares = ((found - wanted).square() * times).sum(grid)
    return (squares / counted.sum(grid).clamp_min(1)).mean()


class SeuLoss(nn.Module):
    """Dice, spectral and uncertainty term together, each row for itself; two grid axes or three.

    Args:
        uncertainty: see `uncertainty_loss`.
        spectral_weight: lambda_F.
        uncertainty_weight: lambda_E.
        smoothing: of the Dice fraction, in voxels.

    Raises:
        UnknownNameError: another uncertainty term.
        ConfigError: a negative weight or smoothing.

    Example:
        >>> losses = SeuLoss.published()(torch.zeros(1, 1, 8, 8), torch.ones(1, 8, 8, dtype=torch.long))
        >>> {name: round(value.item(), 6) for name, value in losses.items()}
        {'total': 0.442991, 'dice': 0.333333, 'spectral': 0.25, 'uncertainty': 0.346574}
    """

    def __init__(
        self,
        uncertainty: UncertaintyTerm = "entropy",
        spectral_weight: float = 0.3,
        uncertainty_weight: float = 0.1,
        smoothing: float = 1.0,
    ):
        super().__init__()
        if uncertainty not in TERMS:
            raise UnknownNameError("uncertainty term", uncertainty, TERMS)
        settings = {
            "spectral_weight": spectral_weight,
            "uncertainty_weight": uncertainty_weight,
            "smoothing": smoothing,
        }
        for name, value in settings.items():
            if not value >= 0:
                raise ConfigError(f"{name}={value}, expected 0 or more.")
        self.uncertainty: UncertaintyTerm = uncertainty
        self.spectral_weight, self.uncertainty_weight = spectral_weight, uncertainty_weight
        self.smoothing = smoothing

    @classmethod
    def published(cls) -> SeuLoss:
        """As the paper has it: one-sided entropy for one logit, 1e-6 in the Dice fraction."""
        return cls("one_sided", smoothing=1e-6)

    @classmethod
    def honest(cls) -> SeuLoss:
        """With the Brier score, which is lowest for the true probability, in place of the entropy."""
        return cls("brier")

    def forward(
        self, logits: Float[Tensor, "batch channels *grid"], label: Int[Tensor, "batch *grid"]
    ) -> dict[str, Tensor]:
        """Named losses; `total` is to be minimised, `dice`, `spectral` and `uncertainty` are its unweighted terms.

        A term of weight 0 is computed all the same, so that it can be read.

        Args:
            logits: raw: one for the foreground, or one per class, background first.
            label: class per voxel, -1 where unknown: left out of every term.

        Raises:
            InputError: labels of another grid, or of classes that the logits do not have.
        """
        if logits.shape[:1] + logits.shape[2:] != label.shape:
            raise InputError(
                f"Labels of shape {tuple(label.shape)} beside logits of shape {tuple(logits.shape)}, expected "
                "(batch, *grid) beside (batch, channels, *grid)."
            )
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits if logits.dtype == torch.float64 else logits.float()
            target, known = class_planes(label, logits.shape[1])
            probability = log_probability(logits)[:, -logits.shape[1] :].exp()
            target = target.to(logits.dtype)
            dice = dice_loss(probability, target, known, self.smoothing)
            spectral = spectral_loss(probability, target, known)
            doubt = uncertainty_loss(logits, label, self.uncertainty)
            total = dice + self.spectral_weight * spectral + self.uncertainty_weight * doubt
        return {"total": total, "dice": dice, "spectral": spectral, "uncertainty": doubt}


def _counted(values: Tensor, known: Tensor | None) -> Tensor:
    """1 for voxels that count, (batch, 1, *grid)."""
    return torch.ones_like(values[:, :1]) if known is None else known.unsqueeze(1).to(values.dtype)
