"""Label corruptions: seeded, graded, and changing nothing but what they say."""

import numpy as np
import pytest
from scipy import ndimage

from sfumato.datasets import open_dataset
from sfumato.datasets.corruption import CORRUPTIONS, SEVERITIES
from sfumato.datasets.label_corruption import LABEL_CORRUPTIONS, Drawing, corrupt_label, dilate, erode
from sfumato.datasets.synthetic import make_phantoms
from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.imaging import Geometry, LabelMap, read_label
from sfumato.metrics.overlap import dice_per_class

NAMES = sorted(LABEL_CORRUPTIONS)


def label_of(spatial_dims, classes=3, seed=0, name=None):
    grid = (48, 56) if spatial_dims == 2 else (20, 24, 28)
    phantom = make_phantoms(1, spatial_dims, seed, classes=classes, grid=grid)[0]
    return LabelMap(phantom.label.astype(np.int32), Geometry(grid), name or f"case{seed}")


def instances_of(seed=0):
    """Numbered discs, apart from each other."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:60, :80]
    array = np.zeros((60, 80), np.int32)
    for number in range(12):
        centre = np.array([10 + 20 * (number // 4), 10 + 20 * (number % 4)]) + rng.integers(-2, 3, 2)
        disc = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= rng.integers(3, 7) ** 2
        array[disc] = 5 + 3 * number
    return LabelMap(array, Geometry(array.shape), f"nuclei{seed}")


def drawing_of(mask, spacing=None):
    labels = mask.astype(np.int32)
    return Drawing(labels, labels, np.ones(mask.ndim) if spacing is None else np.asarray(spacing, float))


def overlap(changed, label, instances=False):
    one, other = changed.array, label.array
    if instances:
        one, other = (one > 0).astype(int), (other > 0).astype(int)
    return float(np.nanmean(dice_per_class(one, other, int(other.max()) + 1)))


def labels_of_all_kinds(seed=0):
    return [
        (label_of(2, 2, seed), False),
        (label_of(2, 4, seed), False),
        (label_of(3, 2, seed), False),
        (label_of(3, 3, seed), False),
        (instances_of(seed), True),
    ]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_dice_falls_with_the_severity(name, seed):
    for label, instances in labels_of_all_kinds(seed):
        dice = [overlap(corrupt_label(label, name, s, 0, instances), label, instances) for s in SEVERITIES]
        assert 1 > dice[0] > dice[1] > dice[2] >= 0, (label.name, label.array.shape)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_call_gives_the_same_label_and_the_input_stays(name):
    for label, instances in labels_of_all_kinds():
        before = label.array.copy()
        once = corrupt_label(label, name, 2, 0, instances)
        np.testing.assert_array_equal(once.array, corrupt_label(label, name, 2, 0, instances).array)
        np.testing.assert_array_equal(label.array, before)
        assert once.array.dtype == before.dtype
        assert once.geometry is label.geometry
        assert set(np.unique(once.array)) <= set(np.unique(before))


@pytest.mark.parametrize("name", ["shift", "swap", "missing"])
def test_case_names_and_seeds_draw_differently(name):
    first = corrupt_label(label_of(3), name, 2).array
    assert not np.array_equal(first, corrupt_label(label_of(3, name="another"), name, 2).array)
    assert not np.array_equal(first, corrupt_label(label_of(3), name, 2, seed=1).array)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_voxels_stay_unknown(name):
    label = label_of(2)
    label.array[20:30, 20:30] = -1
    changed = corrupt_label(label, name, 3).array
    np.testing.assert_array_equal(changed < 0, label.array < 0)


@pytest.mark.parametrize("name", ["erosion", "dilation", "missing", "swap"])
def test_a_severe_change_contains_the_mild_one(name):
    for label, instances in labels_of_all_kinds():
        masks = [corrupt_label(label, name, s, 0, instances).array != label.array for s in SEVERITIES]
        assert (masks[0] <= masks[1]).all()
        assert (masks[1] <= masks[2]).all()


@pytest.mark.parametrize("seed", range(3))
def test_one_layer_of_erosion_and_dilation_is_scipys(seed):
    label = label_of(3, 2, seed).array > 0
    eroded, dilated = ndimage.binary_erosion(label), ndimage.binary_dilation(label)
    rng = np.random.default_rng(0)
    ours = erode(drawing_of(label), (label.sum() - eroded.sum()) / label.sum(), rng)
    np.testing.assert_array_equal(ours > 0, eroded)
    ours = dilate(drawing_of(label), (dilated.sum() - label.sum()) / label.sum(), rng)
    np.testing.assert_array_equal(ours > 0, dilated)


def test_lengths_are_physical():
    box = np.zeros((5, 30, 30), bool)
    box[1:4, 8:22, 8:22] = True
    eroded = erode(drawing_of(box, (10, 1, 1)), 0.3, np.random.default_rng(0)) > 0
    # Three slices of 10 mm lose their rims (52 voxels, then 44), not the outer two slices.
    assert not eroded[:, 8].any()
    assert all(14**2 - 52 - 44 <= kept <= 14**2 - 52 for kept in eroded[1:4].sum((1, 2)))
    dilated = dilate(drawing_of(box, (10, 1, 1)), 0.3, np.random.default_rng(0)) > 0
    assert not dilated[[0, 4]].any()


def test_every_object_keeps_its_number_and_loses_its_share():
    label = instances_of()
    for severity, share in zip(SEVERITIES, (0.15, 0.35, 0.6), strict=True):
        changed = corrupt_label(label, "erosion", severity, 0, True).array
        for number in np.unique(label.array[label.array > 0]):
            before, after = label.array == number, changed == number
            assert (after <= before).all()
            assert after.sum() == before.sum() - int(share * before.sum() + 0.5)


def test_growth_goes_to_the_nearest_object_and_never_into_another():
    label = label_of(2, 4)
    changed = corrupt_label(label, "dilation", 3).array
    foreground = label.array > 0
    np.testing.assert_array_equal(changed[foreground], label.array[foreground])
    inside = np.argwhere(foreground)
    for place in np.argwhere((changed > 0) & ~foreground):
        away = ((inside - place) ** 2).sum(1)
        nearest = inside[away == away.min()]
        assert changed[tuple(place)] in label.array[tuple(nearest.T)]


def test_a_shift_moves_everything_together():
    label = label_of(3)
    changed = corrupt_label(label, "shift", 1).array
    # The blobs lie off the border, so the move can be read from any one class.
    moves = [
        np.argwhere(changed == c).min(0) - np.argwhere(label.array == c).min(0)
        for c in (1, 2)
        if (changed == c).sum() == (label.array == c).sum()
    ]
    assert moves
    for move in moves:
        np.testing.assert_array_equal(changed, ndimage.shift(label.array, move, order=0))
        assert move.any()


def test_nothing_moves_along_thick_slices():
    label = label_of(3, 2)
    thick = LabelMap(label.array, Geometry(label.array.shape, np.diag([5.0, 1, 1, 1])), label.name)
    changed = corrupt_label(thick, "shift", 3).array
    filled = [(a > 0).any((1, 2)) for a in (changed, label.array)]
    np.testing.assert_array_equal(*filled)


def test_classes_exchange_their_names():
    label = label_of(2, 3)
    changed = corrupt_label(label, "swap", 3).array
    np.testing.assert_array_equal(changed, np.array([0, 2, 1])[label.array])
    half = corrupt_label(label, "swap", 2).array
    assert (half != label.array).sum() == pytest.approx((label.array > 0).sum() / 2, abs=1)


def test_one_class_changes_places_with_its_ring():
    label = label_of(2, 2)
    changed = corrupt_label(label, "swap", 3).array > 0
    before = label.array > 0
    assert not (changed & before).any()
    away = ndimage.distance_transform_edt(~before)
    assert away[changed].max() <= away[~changed & ~before].min()
    assert changed.sum() == before.sum()


def test_the_smallest_objects_are_missed_first():
    label = instances_of()
    changed = corrupt_label(label, "missing", 2, 0, True).array
    numbers, sizes = np.unique(label.array[label.array > 0], return_counts=True)
    left = np.array([(changed == n).sum() for n in numbers])
    gone, whole = left == 0, left == sizes
    assert (~gone & ~whole).sum() <= 1
    assert sizes[gone].max() <= sizes[whole].min()
    assert sizes.sum() - left.sum() == int(0.4 * sizes.sum() + 0.5)


def test_a_volume_of_one_slice_is_a_picture():
    flat = label_of(2, 2, name="same")
    volume = LabelMap(flat.array[:, :, None], Geometry((*flat.array.shape, 1)), "same")
    for name in ("erosion", "dilation"):
        np.testing.assert_array_equal(
            corrupt_label(volume, name, 2).array[:, :, 0], corrupt_label(flat, name, 2).array
        )
    for name in ("shift", "swap", "missing"):
        assert (corrupt_label(volume, name, 1).array != volume.array).any()


def test_what_cannot_be_done_is_said():
    empty = LabelMap(np.zeros((8, 8), np.int32), Geometry((8, 8)), "bare")
    with pytest.raises(InputError, match="bare: no foreground"):
        corrupt_label(empty, "shift", 1)
    full = LabelMap(np.ones((8, 8), np.int32), Geometry((8, 8)), "full")
    with pytest.raises(InputError, match="full: dilation of severity 1 changes nothing"):
        corrupt_label(full, "dilation", 1)
    with pytest.raises(UnknownNameError, match="erosoin"):
        corrupt_label(full, "erosoin", 1)
    with pytest.raises(ConfigError, match="severity=0"):
        corrupt_label(full, "erosion", 0)


def test_no_name_means_two_things():
    assert not set(LABEL_CORRUPTIONS) & set(CORRUPTIONS)


@pytest.mark.needs_data
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("data", ["acdc", "hippocampus_msd", "dsb2018", "cvc_clinicdb"])
def test_dice_falls_with_the_severity_on_real_labels(data_folder, data, name):
    if not (data_folder / data).is_dir():
        pytest.skip(f"no {data}")
    cases = list(open_dataset(data_folder / data).cases.values())
    for case in cases[:: len(cases) // 3][:3]:
        label = read_label(case.label, case.name)
        single = data in ("dsb2018", "cvc_clinicdb")
        dice = [overlap(corrupt_label(label, name, s, 0, single), label, single) for s in SEVERITIES]
        assert 1 > dice[0] > dice[1] > dice[2]
