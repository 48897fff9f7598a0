"""Class means and covariances of features from running sums: cases are read one by one and never joined."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ...heads.labels import IGNORE

CHUNK = 1 << 16
"""Voxels that are turned into float64 at a time."""
LEAST_VOXELS = 2
"""A class with fewer labelled voxels has no Gaussian."""


@dataclass
class Moments:
    """Sums over the voxels of one tap, float64.

    Args:
        count: (classes,) voxels.
        total: (classes, width) sum of the features.
        products: (classes, width, width) sum of their outer products.
    """

    count: Float[Tensor, "classes"]
    total: Float[Tensor, "classes width"]
    products: Float[Tensor, "classes width width"]

    @classmethod
    def zeros(cls, classes: int, width: int) -> Moments:
        """Of no voxel."""
        shape = (classes, width)
        return cls(
            torch.zeros(classes, dtype=torch.float64),
            torch.zeros(shape, dtype=torch.float64),
            torch.zeros(*shape, width, dtype=torch.float64),
        )

    def add(self, feature: Float[Tensor, "batch width *coarse"], label: Int[Tensor, "batch *grid"]) -> None:
        """One more batch; the label is brought to the feature's grid by the nearest voxel."""
        columns = feature.movedim(1, -1).flatten(0, -2)
        classes = nearest_label(label, feature.shape[2:]).flatten()
        for some, chosen in zip(columns.split(CHUNK), classes.split(CHUNK), strict=True):
            for c in chosen.unique().tolist():
                if c == IGNORE:
                    continue
                rows = some[chosen == c].double().cpu()
                self.count[c] += len(rows)
                self.total[c] += rows.sum(dim=0)
                self.products[c] += rows.T @ rows

    def means(self) -> Float[Tensor, "classes width"]:
        """Mean per class; 0 for a class without voxels."""
        return self.total / self.count.clamp_min(1)[:, None]

    def covariance(self, tied: bool, shrinkage: float) -> Float[Tensor, "classes width width"]:
        """(1 - s) S + s tr(S) / width I, one per class.

        S = sum over classes of sum (f - mu_c)(f - mu_c)^T / N where it is tied. Otherwise it is the class's own, except
        for classes with at most `width` voxels, too few for a covariance of their own: they take the tied one.

        Args:
            tied: one S for all classes.
            shrinkage: s, in (0, 1].
        """
        means = self.means()
        scatter = self.products - self.count[:, None, None] * means[:, :, None] * means[:, None, :]
        shared = scatter.sum(dim=0) / self.count.sum().clamp_min(1)
        width = shared.shape[0]
        own = scatter / self.count.clamp_min(1)[:, None, None]
        enough = (self.count > width) & (not tied)
        found = torch.where(enough[:, None, None], own, shared)
        level = found.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(1e-12)
        return (1 - shrinkage) * found + shrinkage * level[:, None, None] * torch.eye(
            width, dtype=found.dtype
        )


def nearest_label(label: Int[Tensor, "batch *grid"], grid: torch.Size) -> Int[Tensor, "batch *coarse"]:
    """The label at the voxel nearest to each coarse voxel's centre.

    Example:
        >>> nearest_label(torch.tensor([[0, 1, 2, 3, 4, 5]]), torch.Size([2])).tolist()
        [[1, 4]]
    """
    if label.shape[1:] == grid:
        return label
    return F.interpolate(label[:, None].double(), size=tuple(grid), mode="nearest-exact")[:, 0].long()
