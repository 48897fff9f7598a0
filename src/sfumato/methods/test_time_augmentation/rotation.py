"""Rotation of a grid about its centre, and back."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def rotate(
    value: Float[Tensor, "batch channels *grid"], degrees: float
) -> Float[Tensor, "batch channels *grid"]:
    """y(v) = x(R v), linear, in the plane of the first two grid axes; the border's values go on outside the view.

    R turns voxel coordinates about the grid's centre; unequal voxel sizes are not undone.
    """
    places = _turned(value, degrees)
    # corners aligned: -1 and 1 are the centres of the outermost voxels
    sides = torch.tensor(value.shape[2:], device=value.device).sub(1).clamp_min(1)
    grid = (2 * places / sides - 1).flip(-1).to(value.dtype)
    grid = grid.expand(len(value), *grid.shape)
    return F.grid_sample(value, grid, mode="bilinear", padding_mode="border", align_corners=True)


def rotate_back(
    value: Float[Tensor, "batch channels *grid"],
    degrees: float,
    outside: Float[Tensor, "batch channels *grid"],
) -> Float[Tensor, "batch channels *grid"]:
    """The inverse of `rotate`; where the turned image did not reach, `outside`."""
    return torch.where(in_view(value, degrees), rotate(value, -degrees), outside)


def in_view(value: Float[Tensor, "batch channels *grid"], degrees: float) -> Bool[Tensor, "*grid"]:
    """Voxels that the turned image shows: R^-1 v lies inside the grid."""
    places = _turned(value, -degrees)
    last = torch.tensor(value.shape[2:], device=value.device).sub(1)
    return ((places >= -1e-6) & (places <= last + 1e-6)).all(dim=-1)


def _turned(value: Tensor, degrees: float) -> Float[Tensor, "*grid axes"]:
    """R v for every voxel v, in voxels, float64."""
    sides = value.shape[2:]
    axes = [torch.arange(n, dtype=torch.float64, device=value.device) for n in sides]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    centre = [(n - 1) / 2 for n in sides[:2]]
    first, second = places[..., 0] - centre[0], places[..., 1] - centre[1]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = [centre[0] + cosine * first - sine * second, centre[1] + sine * first + cosine * second]
    return torch.stack([*turned, *places.unbind(-1)[2:]], dim=-1)
