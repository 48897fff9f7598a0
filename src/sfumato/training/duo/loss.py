"""The DUO loss: class weights from the network's own logits, labels corrected by a learnt noise map.

Li et al., arXiv 2604.10963, "dynamic uncertainty-aware optimisation". Where that text leaves a choice, the stable one
is taken: the weight carries no gradient (else the optimiser lowers the loss by making logits noisy), the corrected
label does (else the noise head never learns), labels are clipped to [0, 1], classes are averaged, not summed, and the
background has a term of its own with weight 1, without which its logit is not trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...errors import ConfigError, InputError
from ...measures.spectrum import logit_scale
from ...types import Link
from .class_loss import class_losses, class_planes, one_vs_rest
from .coefficients import CoefficientTable, PooledCoefficients
from .config import DuoConfig

CoarseHead = tuple[Float[Tensor, "batch channels *grid"], Int[Tensor, "batch *grid"]]
"""Logits of a head of deep supervision and the labels on its grid."""


def class_weights(scale: Float[Tensor, "batch classes"], config: DuoConfig) -> Float[Tensor, "batch classes"]:
    """w = 1 / (1 + alpha S), in [1 / (1 + alpha), 1]: a class that is richly represented weighs less.

    Args:
        scale: S in [0, 1].
        config: `alpha`, `weights` and `normalise` are used; `random` draws from torch's global generator.

    Example:
        >>> [round(w, 6) for w in class_weights(torch.tensor([[0.0, 0.134, 1.0]]), DuoConfig()).flatten().tolist()]
        [1.0, 0.937207, 0.666667]
    """
    if config.weights == "none":
        return torch.ones_like(scale)
    weight = 1 / (1 + config.alpha * scale)
    if config.weights == "random":
        weight = weight.flatten()[torch.randperm(weight.numel()).to(weight.device)].reshape(weight.shape)
    return weight / weight.mean() if config.normalise else weight


def purified_labels(
    planes: Float[Tensor, "batch classes *grid"],
    coefficient: Float[Tensor, "batch classes"],
    noise: Float[Tensor, "batch classes *grid"],
    budget: float,
) -> Float[Tensor, "batch classes *grid"]:
    """y - budget e g, clipped to [0, 1]: a positive coefficient e shrinks the label where the noise map g is large.

    Example:
        >>> y, g = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]])
        >>> purified_labels(y, torch.tensor([[1.0]]), g, 0.5).tolist()
        [[[0.75, 0.0]]]
    """
    shaped = coefficient.reshape(*coefficient.shape, *[1] * (planes.dim() - 2))
    return (planes - budget * shaped * noise).clamp(0, 1)


class DuoLoss(nn.Module):
    """Class-weighted Dice and cross-entropy against labels that are corrected while training.

    A drop-in for any loop: give its parameters to the optimiser too (those in `coefficients.undecayed` without weight
    decay) and call it with the logits, the labels, the output of a noise head and the position of each row's case.

    Args:
        classes: foreground classes.
        config: see `DuoConfig`.
        samples: training cases, for a table of coefficients.
        link: `softmax` has a background logit first; with `sigmoid` every logit is a foreground class of its own, and
            there is no background term, as no background logit is to be trained.
        seed: of the coefficients' start.

    Raises:
        ConfigError: no classes, or a table without cases.

    Example:
        >>> loss = DuoLoss(classes=2, config=DuoConfig(denoise=False))
        >>> losses = loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))
        >>> sorted(losses)
        ['cross_entropy', 'dice', 'noise', 'rho', 'scale', 'total', 'weight']
    """

    average: Tensor
    steps: Tensor

    def __init__(
        self,
        classes: int,
        config: DuoConfig | None = None,
        samples: int = 0,
        link: Link = Link.SOFTMAX,
        seed: int = 0,
    ):
        super().__init__()
        if classes < 1:
            raise ConfigError(f"{classes} foreground classes, expected at least one.")
        self.classes = classes
        self.config = config or DuoConfig()
        self.link = link
        self.coefficients: CoefficientTable | PooledCoefficients | None = None
        if self.config.denoise:
            table = self.config.mode == "table"
            self.coefficients = CoefficientTable(samples, classes, seed) if table else PooledCoefficients()
        self.register_buffer("average", torch.zeros(classes))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(
        self,
        logits: Float[Tensor, "batch channels *grid"],
        labels: Int[Tensor, "batch *grid"],
        noise_logits: Float[Tensor, "batch noise *grid"] | None = None,
        index: Int[Tensor, "batch"] | None = None,
        progress: float = 1.0,
        coarse: Sequence[CoarseHead] = (),
    ) -> dict[str, Tensor]:
        """Named losses; `total` is to be minimised, the others are to be read.

        Args:
            logits: raw; `classes` + 1 channels, or `classes` with `Link.SIGMOID`; two grid axes or three.
            labels: class per voxel, -1 where unknown: left out of every term.
            noise_logits: of the noise head, `config.noise_channels(classes)` channels.
            index: position of each row's case among the training cases; `mode="table"` needs it.
            progress: share of the training that is done, in [0, 1].
            coarse: further heads of deep supervision, finest first; the k-th counts 2^-k, with the same class weights
                and the labels as they were given.

        Raises:
            InputError: shapes that do not fit, or a noise head or an index that is missing.
        """
        self._check(logits, labels, noise_logits, index)
        with torch.autocast(logits.device.type, enabled=False):
            logits, known = _wide(logits), labels >= 0
            scale = self._scale(logits, known)
            weight = class_weights(scale, self.config).to(logits.dtype)
            target, noise = self._target(labels, noise_logits, index, progress)
            entropy, dice, parts = self._terms(logits, target.to(logits.dtype), known, weight)
            total, factors = parts.mean(), 1.0
            for k, (head, head_labels) in enumerate(coarse, start=1):
                planes = class_planes(head_labels, self.classes).to(logits.dtype)
                total = total + 2.0**-k * self._terms(_wide(head), planes, head_labels >= 0, weight)[2].mean()
                factors += 2.0**-k
            budget = self.config.noise_budget(progress) if self.config.denoise else 0.0
            # In proportion to the budget: before the warm-up the penalty would be the head's only gradient, and Adam,
            # which does not feel how small a gradient is, would switch the head off before it had anything to learn.
            penalty = self.config.noise_penalty * (budget / self.config.rho if budget else 0.0) * noise
        return {
            "total": total / factors + penalty,
            "dice": dice.mean(),
            "cross_entropy": entropy.mean(),
            "noise": penalty,
            "weight": weight.mean(),
            "scale": scale.mean(),
            "rho": torch.tensor(budget),
        }

    def _terms(
        self,
        logits: Float[Tensor, "batch channels *grid"],
        target: Float[Tensor, "batch classes *grid"],
        known: Bool[Tensor, "batch *grid"],
        weight: Float[Tensor, "batch classes"],
    ) -> tuple[
        Float[Tensor, "batch channels"], Float[Tensor, "batch channels"], Float[Tensor, "batch channels"]
    ]:
        """Cross-entropy, Dice loss, and their weighted mixture, for every sample and logit."""
        if self.link is Link.SOFTMAX:
            background = (1 - target.sum(1, keepdim=True)).clamp(0, 1)
            target = torch.cat([background, target], dim=1)
            weight = torch.cat([torch.ones_like(weight[:, :1]), weight], dim=1)
        entropy, dice = class_losses(one_vs_rest(logits, self.link), target, known)
        return entropy, dice, weight * (self.config.beta * dice + (1 - self.config.beta) * entropy)

    @torch.no_grad()
    def _scale(
        self, logits: Float[Tensor, "batch channels *grid"], known: Bool[Tensor, "batch *grid"]
    ) -> Float[Tensor, "batch classes"]:
        """S of the foreground logits, unknown voxels blanked; with `average`, the moving mean of each class."""
        found = logit_scale(logits[:, -self.classes :] * known.unsqueeze(1))
        if not self.config.average:
            return found
        if self.training:
            self.average.lerp_(found.mean(0).to(self.average.dtype), 1 - self.config.average)
            self.steps += 1
        # The mean started from 0: divided by what it has seen, as in Adam (Kingma and Ba, arXiv 1412.6980).
        seen = 1 - self.config.average ** int(self.steps)
        return (self.average / seen).expand_as(found) if seen else found

    def _target(
        self,
        labels: Int[Tensor, "batch *grid"],
        noise_logits: Float[Tensor, "batch noise *grid"] | None,
        index: Int[Tensor, "batch"] | None,
        progress: float,
    ) -> tuple[Float[Tensor, "batch classes *grid"], Float[Tensor, ""]]:
        """Foreground labels as they are believed now, and the mean square of the noise map."""
        planes = class_planes(labels, self.classes)
        if self.coefficients is None or noise_logits is None:
            return planes, planes.new_zeros(())
        maps = _wide(noise_logits)
        noise, pooled = torch.sigmoid(maps[:, : self.classes]), maps[:, self.classes :]
        coefficient = self.coefficients(index if isinstance(self.coefficients, CoefficientTable) else pooled)
        known = (labels >= 0).unsqueeze(1).expand_as(noise)
        square = (noise.square() * known).sum() / known.sum().clamp(min=1)
        return purified_labels(planes, coefficient, noise, self.config.noise_budget(progress)), square

    def _check(
        self, logits: Tensor, labels: Tensor, noise_logits: Tensor | None, index: Tensor | None
    ) -> None:
        channels = self.classes + (self.link is Link.SOFTMAX)
        if logits.shape[1] != channels:
            raise InputError(
                f"{logits.shape[1]} logits, expected {channels} for {self.classes} foreground classes."
            )
        if labels.numel() and int(labels.max()) > self.classes:
            raise InputError(
                f"Label {int(labels.max())}, expected at most {self.classes}, the number of foreground classes; give "
                "unknown voxels the label -1."
            )
        wanted = self.config.noise_channels(self.classes)
        given = 0 if noise_logits is None else noise_logits.shape[1]
        if given != wanted:
            raise InputError(
                f"{given} channels of noise logits, expected {wanted}; give the network a noise head, or set "
                "denoise=False."
            )
        if index is None and isinstance(self.coefficients, CoefficientTable):
            raise InputError(
                "No index of the rows' cases, expected one per row; fill Batch.index, or set mode='pooled'."
            )


def _wide(values: Tensor) -> Tensor:
    """At least float32: half precision loses what the sums and the log-odds need."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
