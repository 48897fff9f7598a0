"""Where cells of the mask grid lie, against the way the frame reads maps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.methods.sam_gaps.mask_grid import pairwise_iou, plane_pixels, shown_cells
from sfumato.segmenters.promptable import Frame

sides = st.tuples(st.integers(8, 300), st.integers(8, 300))


@settings(deadline=None, max_examples=60)
@given(sides, st.booleans(), st.data())
def test_the_pixel_of_a_cell_is_within_a_pixel_of_its_centre(plane, stretch, data):
    frame, grid = Frame(plane, 128, stretch), (32, 32)
    shown = shown_cells(torch.zeros(grid), frame).shape
    cell = torch.tensor([float(data.draw(st.integers(0, n - 1))) for n in shown])
    pixel = plane_pixels(cell, frame, grid)
    assert torch.equal(pixel, pixel.round())
    assert all(0 <= int(p) < n for p, n in zip(pixel, plane, strict=True))
    centre = (cell + 0.5) * 4 / torch.tensor(frame.scale) - 0.5
    inside = centre.minimum(torch.tensor(plane) - 1.0)
    assert float((pixel - inside).abs().max()) <= 0.51


def test_a_bright_cell_is_brightest_at_its_pixel():
    frame, grid = Frame((96, 128), 128), (32, 32)
    for row, column in ((1, 1), (5, 17), (22, 30)):
        maps = torch.zeros(grid)
        maps[row, column] = 1
        read = frame.to_plane(maps)
        pixel = plane_pixels(torch.tensor([float(row), float(column)]), frame, grid).long()
        assert float(read[tuple(pixel)]) == pytest.approx(float(read.max()))


def test_padding_is_cut_off_and_nothing_else():
    frame = Frame((50, 100), 128)
    maps = torch.zeros(2, 32, 32)
    assert shown_cells(maps, frame).shape == (2, 16, 32)
    assert shown_cells(maps, Frame((50, 100), 128, stretch=True)).shape == (2, 32, 32)


def test_overlaps_by_counting():
    masks = torch.rand(2, 4, 5, 6, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[0, 0] = masks[0, 1] = False
    found = pairwise_iou(masks[:, :3], masks)
    for b in range(2):
        for i in range(3):
            for j in range(4):
                either = int((masks[b, i] | masks[b, j]).sum())
                both = int((masks[b, i] & masks[b, j]).sum())
                assert float(found[b, i, j]) == pytest.approx(both / either if either else 1.0)
