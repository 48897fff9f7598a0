"""Free numbers about masks, against what geometry says of discs and squares."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.methods.sam_gaps.shape import POINTS, SHAPE_FEATURES, _bits, shape_features
from sfumato.segmenters.promptable import Decoded, Frame


def decoded(
    logits: torch.Tensor, estimates: torch.Tensor | None = None, frame: Frame | None = None
) -> Decoded:
    prompts = len(logits)
    estimates = torch.tensor([[0.3, 0.9, 0.6]]).expand(prompts, -1) if estimates is None else estimates
    tokens = torch.zeros(prompts, 5, 8)
    frame = frame or Frame((256, 256), 4 * logits.shape[-1])
    return Decoded(logits, estimates, tokens[:, 0], tokens[:, 1:], frame)


def squares(sides: tuple[int, int, int], size: int = 256, sharpness: float = 50.0) -> torch.Tensor:
    """(1, 3, size, size): squares around one centre, impossible outside of them."""
    place = (torch.arange(size) - size // 2 + 0.5).abs()
    far = torch.maximum(place[:, None], place[None])
    return torch.stack([torch.where(far < side / 2, sharpness, -sharpness) for side in sides])[None]


def features(*arguments) -> dict[str, torch.Tensor]:
    found = shape_features(decoded(*arguments))
    assert torch.isfinite(found).all()
    return dict(zip(SHAPE_FEATURES, found.permute(2, 0, 1), strict=True))


def test_nested_squares_have_the_areas_and_overlaps_of_squares():
    found = features(squares((48, 24, 96)))
    areas = found["log_area"][0].exp()
    torch.testing.assert_close(areas, torch.tensor([48.0, 24.0, 96.0]).square() / 256**2, rtol=1e-3, atol=0)
    # The box is the largest square, so the shares of it are squares of ratios of sides.
    torch.testing.assert_close(found["share_of_box"][0], torch.tensor([0.25, 0.0625, 1.0]))
    torch.testing.assert_close(found["overlap_next"][0], torch.tensor([0.25, 0.0625, 0.25]))
    torch.testing.assert_close(found["overlap_after_next"][0], torch.tensor([0.25, 0.25, 0.0625]))
    assert found["estimate_rank"][0].tolist() == [2, 0, 1]


def test_a_certain_mask_is_stable_and_has_no_entropy():
    found = features(squares((48, 24, 96)))
    for name in ("stability", "wide_stability", "confidence"):
        torch.testing.assert_close(found[name], torch.ones(1, 3))
    assert float(found["entropy"].max()) < 1e-6
    # Of the three masks' mean, a third or two of them disagree on three quarters and three sixteenths of the box.
    third = -(1 / 3 * math.log2(1 / 3) + 2 / 3 * math.log2(2 / 3))
    assert float(found["mixture_entropy"][0, 0]) == pytest.approx(third * (0.75 + 0.1875), rel=1e-3)


def test_stability_is_the_iou_of_two_thresholds():
    # Logits fall by one per pixel, so a threshold moves the radius by as much.
    place = (torch.arange(256) - 127.5).abs()
    distance = torch.maximum(place[:, None], place[None])
    found = features((40 - distance)[None, None].expand(1, 3, -1, -1))
    assert float(found["stability"][0, 0]) == pytest.approx((39 / 41) ** 2, abs=0.05)
    assert float(found["wide_stability"][0, 0]) == pytest.approx((36 / 44) ** 2, abs=0.05)


def test_entropy_in_bits_equals_its_definition():
    logits = torch.linspace(-20, 20, 41)
    p = torch.sigmoid(logits.double())
    expected = -(p * p.log2() + (1 - p) * torch.sigmoid(-logits.double()).log2())
    torch.testing.assert_close(_bits(torch.sigmoid(logits), logits), expected.float(), rtol=1e-4, atol=1e-5)


def test_size_and_place_do_not_matter_but_for_the_area():
    small = torch.zeros(1, 3, 256, 256) - 50
    small[..., 20:44, 100:124] = 50
    large = torch.zeros(1, 3, 256, 256) - 50
    large[..., 50:146, 60:156] = 50
    one, other = features(small), features(large)
    for name in SHAPE_FEATURES:
        if name != "log_area":
            torch.testing.assert_close(one[name], other[name])
    assert float((other["log_area"] - one["log_area"])[0, 0]) == pytest.approx(math.log(16), abs=1e-2)


def test_padding_is_not_looked_at():
    frame = Frame((128, 256), 1024)  # the plane fills the upper half of the square
    logits = squares((40, 40, 40)).roll(-64, dims=2)
    disturbed = logits.clone()
    disturbed[:, :, 128:] = 50
    one, other = (shape_features(decoded(x, None, frame)) for x in (logits, disturbed))
    assert torch.equal(one, other)


@pytest.mark.parametrize("value", [-50.0, 0.0, 50.0, 1e4])
def test_empty_full_and_undecided_masks_are_finite(value):
    assert torch.isfinite(shape_features(decoded(torch.full((2, 3, 256, 256), value)))).all()


def test_rows_do_not_see_each_other():
    both = torch.cat([squares((48, 24, 96)), squares((10, 90, 30)).roll(40, dims=3)])
    together = shape_features(decoded(both))
    for row in range(2):
        torch.testing.assert_close(shape_features(decoded(both[row : row + 1]))[0], together[row])


def test_the_grid_is_finer_than_small_objects():
    found = features(squares((6, 6, 6)))
    assert float(found["log_area"][0, 0].exp()) == pytest.approx(36 / 256**2, rel=1e-2)
    assert POINTS > 6
