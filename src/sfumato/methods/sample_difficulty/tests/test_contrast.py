"""Boundary contrast: against shells found by hand, and orders that must hold."""

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.methods.sample_difficulty.contrast import boundary_contrast


def ball(shape, radius, centre=None, spacing=None):
    spacing = np.ones(len(shape)) if spacing is None else np.asarray(spacing)
    centre = (np.array(shape) - 1) / 2 if centre is None else np.asarray(centre)
    axes = np.meshgrid(*[np.arange(n) - c for n, c in zip(shape, centre, strict=True)], indexing="ij")
    return (sum((a * s) ** 2 for a, s in zip(axes, spacing, strict=True)) <= radius**2).astype(int)


def picture(label, noise=0.2, seed=0, levels=(0.0, 1.0, 2.0)):
    rng = np.random.default_rng(seed)
    return (np.array(levels)[label] + noise * rng.normal(size=label.shape))[None]


def step_by_hand(image, label, number):
    """Every known voxel's distance to the nearest one of the other side, pair by pair."""
    inner, outer = [], []
    of_class, others = np.argwhere(label == number), np.argwhere((label != number) & (label >= 0))
    for own, other, values in ((of_class, others, inner), (others, of_class, outer)):
        for place in own:
            if (((other - place) ** 2).sum(1) ** 0.5).min() <= 2:
                values.append(image[(0, *place)])
    noise = np.sqrt((np.var(inner) + np.var(outer)) / 2)
    return noise / (noise + abs(np.mean(inner) - np.mean(outer)))


@pytest.mark.parametrize("seed", range(3))
def test_the_step_is_that_of_shells_found_by_hand(seed):
    label = ball((19, 23), 5.5)
    label[:, 12:][label[:, 12:] == 1] = 2
    image = picture(label, seed=seed)
    found = boundary_contrast(image, label, 4)
    expected = [step_by_hand(image, label, number) for number in (1, 2)]
    np.testing.assert_allclose(found.step[:2], expected, rtol=1e-9)
    assert found.mean_step == pytest.approx(np.mean(expected))
    assert np.isnan(found.step[2])
    assert np.isnan(found.alignment[2])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_label_off_its_edge_is_more_doubtful(dims, seed):
    label = ball((32, 36, 40)[:dims], 8)
    image = picture(label, seed=seed)
    found = [boundary_contrast(image, np.roll(label, by, axis=0), 2) for by in (0, 2, 5)]
    assert found[0].mean_step < found[1].mean_step < found[2].mean_step
    assert found[0].mean_alignment < found[1].mean_alignment < found[2].mean_alignment


@pytest.mark.parametrize("grown", [-4, 4])
def test_a_label_too_small_or_too_large_is_more_doubtful(grown):
    right, wrong = ball((48, 48), 12), ball((48, 48), 12 + grown)
    image = picture(right)
    one, other = boundary_contrast(image, right, 2), boundary_contrast(image, wrong, 2)
    assert one.mean_step < other.mean_step
    assert one.mean_alignment < 0.5 < other.mean_alignment


def test_noise_hides_the_edge():
    label = ball((40, 40), 10)
    found = [boundary_contrast(picture(label, noise), label, 2) for noise in (0.05, 0.2, 0.8, 3.2)]
    assert [f.mean_step for f in found] == sorted(f.mean_step for f in found)
    assert [f.mean_alignment for f in found] == sorted(f.mean_alignment for f in found)
    assert found[0].mean_step < 0.1
    assert found[-1].mean_alignment == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("scale", "offset"), [(3.0, 7.0), (-0.1, 100.0)])
def test_the_unit_of_intensity_and_its_sign_do_not_matter(scale, offset):
    label = ball((24, 26, 28), 7)
    image = picture(label)
    one, other = boundary_contrast(image, label, 2), boundary_contrast(scale * image + offset, label, 2)
    assert other.mean_step == pytest.approx(one.mean_step)
    assert other.mean_alignment == pytest.approx(one.mean_alignment)


def test_the_channel_that_shows_the_boundary_counts():
    label = ball((30, 30), 8)
    clear, blank = picture(label), picture(np.zeros_like(label), seed=1)
    one = boundary_contrast(clear, label, 2)
    both = boundary_contrast(np.concatenate([blank, clear]), label, 2)
    assert both.mean_step == pytest.approx(one.mean_step)


def test_slices_far_apart_are_judged_one_by_one():
    label = ball((6, 40, 40), 12, spacing=(5, 1, 1))
    image = picture(label)
    thick = boundary_contrast(image, label, 2, (5.0, 1.0, 1.0))
    # Unit and order of axes do not matter.
    turned = boundary_contrast(image.transpose(0, 2, 3, 1), label.transpose(1, 2, 0), 2, (0.5, 0.5, 2.5))
    assert turned.mean_step == pytest.approx(thick.mean_step)
    assert turned.mean_alignment == pytest.approx(thick.mean_alignment)
    other = image.copy()
    # A slice beside the object, out of reach of its shells.
    other[0, 0] += 5 * (label[0] == 0) * (label.any(0))
    near = boundary_contrast(other, label, 2, (5.0, 1.0, 1.0)).mean_step
    far = boundary_contrast(other, label, 2).mean_step
    assert near == thick.mean_step
    assert far != boundary_contrast(image, label, 2).mean_step


def test_unknown_voxels_are_in_no_shell():
    label = ball((30, 30), 8)
    image = picture(label)
    label[:, 15:] = -1
    image[0, :, 20:] = 1e6
    found = boundary_contrast(image, label, 2).mean_step
    assert found == pytest.approx(step_by_hand(image, label, 1), rel=1e-9)


def test_where_nothing_can_be_said():
    label = ball((20, 20), 6)
    flat = boundary_contrast(np.full((1, 20, 20), 3.0), label, 2)
    assert np.isnan(flat.mean_step)
    assert np.isnan(flat.mean_alignment)
    for drawn in (np.zeros((20, 20), int), np.ones((20, 20), int)):
        found = boundary_contrast(picture(label), drawn, 2)
        assert np.isnan(found.mean_step)
        assert np.isnan(found.mean_alignment)
    sure = boundary_contrast(label[None].astype(float), label, 2)
    assert sure.mean_step == 0
    with pytest.raises(InputError, match=r"expected \(channels"):
        boundary_contrast(picture(label), label[1:], 2)
    with pytest.raises(InputError, match="one positive number per axis"):
        boundary_contrast(picture(label), label, 2, (1.0,))
    with pytest.raises(InputError, match="finite"):
        boundary_contrast(np.full((1, 20, 20), np.nan), label, 2)
