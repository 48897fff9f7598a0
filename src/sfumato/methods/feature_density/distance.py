"""Squared Mahalanobis distances to class means, a chunk of voxels at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .moments import LEAST_VOXELS, Moments

CHUNK = 1 << 15
"""Voxels whitened at a time: the product of classes, width and voxels never exists."""


class ClassGaussians(nn.Module):
    """One Gaussian per class over the features of one tap.

    With covariance Sigma_c = L L^T the squared distance is |L^-1 (f - mu_c)|^2. Features are first moved by the mean
    of the class means and whitened with A = L^-1: with y = A f and m_c = A mu_c it is |y|^2 - 2 m_c y + |m_c|^2, one
    product of matrices for all classes where the covariance is tied.

    Args:
        classes: background included.
        width: channels of the tap.
        tied: one covariance for all classes.
    """

    centre: Tensor
    means: Tensor
    whitening: Tensor
    known: Tensor

    def __init__(self, classes: int, width: int, tied: bool):
        super().__init__()
        self.tied = tied
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("means", torch.zeros(classes, width))
        self.register_buffer("whitening", torch.eye(width).repeat(1 if tied else classes, 1, 1))
        self.register_buffer("known", torch.ones(classes, dtype=torch.bool))

    def fit(self, moments: Moments, shrinkage: float) -> None:
        """Take over means and covariances; a class with fewer than two voxels is marked as unknown."""
        means, known = moments.means(), moments.count >= LEAST_VOXELS
        centre = means[known].mean(dim=0)
        covariance = moments.covariance(self.tied, shrinkage)[: len(self.whitening)]
        factor = torch.linalg.cholesky(covariance)
        eye = torch.eye(means.shape[1], dtype=means.dtype).expand_as(factor)
        self.centre.copy_(centre)
        self.means.copy_((means - centre) * known[:, None])
        self.whitening.copy_(torch.linalg.solve_triangular(factor, eye, upper=False))
        self.known.copy_(known)

    def forward(self, feature: Float[Tensor, "batch width *grid"]) -> Float[Tensor, "batch classes *grid"]:
        """d_c = (f - mu_c)^T Sigma_c^-1 (f - mu_c), at least 0; an unknown class is as far as the nearest known one."""
        columns = feature.flatten(2)
        found = columns.new_empty(len(columns), len(self.means), columns.shape[2])
        for start in range(0, columns.shape[2], CHUNK):
            piece = columns[:, :, start : start + CHUNK] - self.centre[:, None]
            found[:, :, start : start + CHUNK] = self._squared(piece).clamp_min(0.0)
        if not bool(self.known.all()):
            nearest = found[:, self.known].amin(dim=1, keepdim=True)
            found = torch.where(self.known[:, None], found, nearest)
        return found.unflatten(2, feature.shape[2:])

    def _squared(self, piece: Float[Tensor, "batch width voxels"]) -> Float[Tensor, "batch classes voxels"]:
        if self.tied:
            y, m = torch.matmul(self.whitening[0], piece), self.means @ self.whitening[0].T
            return (
                y.square().sum(dim=1, keepdim=True) - 2 * torch.matmul(m, y) + m.square().sum(dim=1)[:, None]
            )
        rows = [
            torch.matmul(a, piece - mean[:, None]).square().sum(dim=1)
            for a, mean in zip(self.whitening, self.means, strict=True)
        ]
        return torch.stack(rows, dim=1)
