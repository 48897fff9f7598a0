"""The decoder's steps against loops, what the sub-pixel average does to a constant and a spot, and its start."""

import pytest
import torch
from torch.nn import functional as F

from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.decoder import DecoderBlock, SubpixelUpsampling


def upsampling(width=8, **settings):
    torch.manual_seed(0)
    return SubpixelUpsampling(TextGuidedConfig(**settings), width)


def centroid(x):
    total = x.sum()
    rows, columns = (torch.arange(n, dtype=x.dtype) for n in x.shape)
    return float((x.sum(1) * rows).sum() / total), float((x.sum(0) * columns).sum() / total)


def test_a_constant_stays_one_or_darkens_on_two_sides():
    ones = torch.ones(1, 1, 8, 8)
    assert torch.equal(upsampling().average(ones), ones)
    ramp = (torch.arange(8).clamp(max=3) + 1) / 4
    assert torch.equal(upsampling(symmetric_pad=False).average(ones)[0, 0], torch.outer(ramp, ramp))


def test_a_spot_stays_where_it_is_or_moves_by_one_and_a_half():
    spot = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    spot[0, 0, 2, 2] = 1
    cell = spot.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert centroid(cell[0, 0]) == pytest.approx((9.5, 9.5))
    assert centroid(upsampling().average(cell)[0, 0]) == pytest.approx((9.5, 9.5))
    assert centroid(upsampling(symmetric_pad=False).average(cell)[0, 0]) == pytest.approx((11, 11))


def test_the_centred_average_is_its_weights_and_mirrors():
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    weights = (1, 2, 2, 2, 1)
    expected = torch.zeros_like(x)
    for r in range(4):
        for c in range(5):
            for i, u in enumerate(weights):
                for j, v in enumerate(weights):
                    row, column = min(max(r + i - 2, 0), 3), min(max(c + j - 2, 0), 4)
                    expected[..., r, c] += u * v / 64 * x[..., row, column]
    average = upsampling().average
    torch.testing.assert_close(average(x), expected)
    torch.testing.assert_close(average(x.flip(2, 3)), average(x).flip(2, 3))


@pytest.mark.parametrize("symmetric", [True, False])
def test_it_starts_without_a_checkerboard(symmetric):
    layer, x = upsampling(symmetric_pad=symmetric), torch.randn(1, 8, 3, 4)
    shuffled = F.pixel_shuffle(layer.convolution(x), 4)
    cells = shuffled.unfold(2, 4, 4).unfold(3, 4, 4)
    torch.testing.assert_close(cells, cells[..., :1, :1].expand_as(cells))
    assert not torch.allclose(cells[..., 0, 0], cells[0, 0, 0, 0, 0, 0].expand_as(cells[..., 0, 0]))
    assert layer.convolution.bias.abs().max() == 0
    released = upsampling(profile="released", symmetric_pad=symmetric)
    assert released.convolution.bias.abs().max() > 0


def test_sub_pixels_lie_row_by_row():
    layer, x = upsampling(symmetric_pad=False), torch.randn(2, 8, 3, 4)
    with torch.no_grad():
        layer.convolution.weight.normal_()
        planes, fine = layer.convolution(x), torch.zeros(2, 2, 12, 16)
        for k in range(2):
            for i in range(4):
                for j in range(4):
                    fine[:, k, i::4, j::4] = planes[:, 16 * k + 4 * i + j]
        torch.testing.assert_close(layer(x), layer.average(fine))


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_decoder_block_is_its_description(norm):
    torch.manual_seed(0)
    block, x, skip = DecoderBlock(6, 4, norm).eval(), torch.randn(2, 6, 3, 4), torch.randn(2, 4, 5, 8)
    up = torch.zeros(2, 4, 6, 8)
    for r in range(6):
        for c in range(8):
            up[:, :, r, c] = x[:, :, r // 2, c // 2] @ block.upsample.weight[:, :, r % 2, c % 2]
    joined = torch.cat([up[:, :, :5], skip], dim=1)
    for convolution in (block.first, block.second):
        filtered = F.unfold(joined, 3, padding=1)
        joined = (convolution.weight.flatten(1) @ filtered).reshape(2, 4, 5, 8)
        if norm == "batch":  # fresh statistics: mean 0, variance 1
            joined = joined / (1 + 1e-5) ** 0.5
        else:  # as many groups as channels
            spread, mean = torch.var_mean(joined, dim=(2, 3), correction=0, keepdim=True)
            joined = (joined - mean) / (spread + 1e-5).sqrt()
        joined = torch.where(joined > 0, joined, 0.01 * joined)
    torch.testing.assert_close(block(x, skip), joined, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "count"), [(768, 5162496), (384, 1291008), (192, 322944)])
def test_it_has_the_parameters_of_the_authors_blocks(width, count):
    with torch.device("meta"):
        block = DecoderBlock(width, width // 2)
    assert sum(p.numel() for p in block.parameters()) == count
