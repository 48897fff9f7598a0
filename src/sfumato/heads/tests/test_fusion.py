from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from sfumato.errors import TapError, UnknownNameError
from sfumato.heads.fusion import (
    LightFusion,
    ReferenceFusion,
    largest_grid,
    make_fusion,
    resize,
)


@pytest.mark.parametrize("cls", [ReferenceFusion, LightFusion])
@pytest.mark.parametrize("grid", [(7, 10), (5, 8, 6), (9, 4, 3)])
def test_odd_and_anisotropic_grids(cls, grid):
    dims = len(grid)
    coarse = tuple(-(-n // 2) for n in grid)
    fusion = cls([6, 3], 4, dims)
    fused = fusion([torch.randn(2, 6, *coarse), torch.randn(2, 3, *grid)])
    assert fused.shape == (2, 4, *grid)
    assert torch.isfinite(fused).all()


def test_the_reference_fusion_is_what_the_paper_says():
    torch.manual_seed(0)
    fusion = ReferenceFusion([5, 3], 4, 2)
    taps = [torch.randn(1, 5, 4, 4), torch.randn(1, 3, 8, 8)]
    a = F.interpolate(
        F.conv2d(taps[0], fusion.projections[0].weight), size=(8, 8), mode="bilinear", align_corners=False
    )
    x = torch.cat([a, F.conv2d(taps[1], fusion.projections[1].weight)], dim=1)
    for conv in (fusion.first, fusion.second):
        x = F.conv2d(x, conv.weight, padding=1)
        mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
        x = (x - mean) / torch.sqrt(variance + 1e-5)
        x = 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    torch.testing.assert_close(fusion(taps), x, rtol=1e-5, atol=1e-5)


def test_the_largest_tap_gives_the_grid_and_the_first_wins_a_tie():
    taps = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 2), torch.zeros(1, 1, 2, 2)]
    assert largest_grid(taps) == (4, 4)
    assert largest_grid(taps[::-1]) == (8, 2)


def test_resizing_to_the_same_grid_does_nothing():
    value = torch.randn(1, 2, 3, 3)
    assert resize(value, (3, 3)) is value


def test_wrong_requests_are_refused():
    with pytest.raises(UnknownNameError, match="reference"):
        make_fusion("referenc", [3], 4, 2)
    with pytest.raises(TapError, match="no features"):
        make_fusion("reference", [], 4, 2)


@pytest.mark.parametrize(
    "grids", [[(3, 4), (6, 8)], [(2, 4, 3), (4, 8, 6), (8, 16, 12)], [(4, 5), (8, 9)], [(5, 7, 3)]]
)
def test_prediction_and_training_fuse_alike(grids):
    torch.manual_seed(0)
    widths = [5, 4, 3][-len(grids) :]
    fusion = ReferenceFusion(widths, 6, len(grids[0]))
    taps = [3 + 2 * torch.randn(2, w, *g) for w, g in zip(widths, grids, strict=True)]
    with torch.no_grad():
        predicted = fusion(taps)
    torch.testing.assert_close(predicted, fusion.fuse_plainly(taps).detach(), rtol=1e-4, atol=1e-5)
