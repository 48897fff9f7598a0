"""Regions, overlap, distances, filtered curves and aggregations of maps against slow twins and other libraries."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.metrics import (
    AGGREGATIONS,
    ALL_REGIONS,
    REGIONS,
    FilteredState,
    dice_per_class,
    hd95_per_class,
    iou_per_class,
    region_masks,
)
from sfumato.metrics.aggregate import boundary_excluded, component_sum, distance_weighted, top_patch

shapes = hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9)


def label_maps(lowest):
    sparse = st.sampled_from([lowest, 0, 0, 0, 0, 0, 1, 2])
    return lambda shape: hnp.arrays(np.int64, shape, elements=sparse, fill=st.just(0))


pairs = shapes.flatmap(lambda s: st.tuples(label_maps(0)(s), label_maps(-1)(s)))
floats = st.floats(0, 1, width=32)
maps = shapes.flatmap(lambda s: st.tuples(hnp.arrays(np.float32, s, elements=floats), label_maps(0)(s)))


def twin_boundary(labels):
    found = np.zeros(labels.shape, bool)
    for place in np.ndindex(labels.shape):
        for axis in range(labels.ndim):
            for step in (-1, 1):
                other = list(place)
                other[axis] += step
                if 0 <= other[axis] < labels.shape[axis] and labels[place] != labels[tuple(other)]:
                    found[place] |= labels[place] > 0
    return found


def twin_distance(mask):
    goal = np.argwhere(mask)
    places = np.argwhere(np.ones(mask.shape, bool))
    if not len(goal):
        return np.full(mask.shape, np.inf)
    return np.sqrt(((places[:, None] - goal[None]) ** 2).sum(-1).min(1)).reshape(mask.shape)


@settings(max_examples=80, deadline=None)
@given(pairs, st.sampled_from([1.0, 2.0, 5.0]))
def test_regions_by_their_definitions(pair, distance):
    prediction, label = pair
    masks = region_masks(prediction, label, distance, ALL_REGIONS)
    known, foreground = label >= 0, (prediction > 0) | (label > 0)
    np.testing.assert_array_equal(masks["whole"], known)
    np.testing.assert_array_equal(masks["foreground"], foreground & known)
    np.testing.assert_array_equal(masks["near"], (twin_distance(foreground) <= distance) & known)
    edges = twin_boundary(prediction) | twin_boundary(label)
    np.testing.assert_array_equal(masks["boundary"], (twin_distance(edges) <= 2) & known)


def test_regions_of_nothing_but_foreground():
    full = np.ones((4, 5), int)
    masks = region_masks(full, full, regions=ALL_REGIONS)
    assert masks["near"].all()
    assert not masks["boundary"].any()


def test_regions_are_three_unless_asked():
    empty = np.zeros((3, 3), int)
    assert tuple(region_masks(empty, empty)) == REGIONS
    assert tuple(region_masks(empty, empty, regions=("boundary", "whole"))) == ("boundary", "whole")
    with pytest.raises(UnknownNameError, match="region"):
        region_masks(empty, empty, regions=("edge",))
    with pytest.raises(InputError, match="one shape"):
        region_masks(empty, empty[:2])


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_overlap_by_its_definition(pair):
    prediction, label = pair
    known = label >= 0
    for c, dice, iou in zip((1, 2, 3), dice_per_class(*pair, 4), iou_per_class(*pair, 4), strict=True):
        a, b = (prediction == c) & known, (label == c) & known
        if (a | b).any():
            assert dice == 2 * (a & b).sum() / (a.sum() + b.sum())
            assert iou == (a & b).sum() / (a | b).sum()
        else:
            assert np.isnan([dice, iou]).all()


def twin_hd95(a, b, spacing):
    def surface(mask):
        return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing

    table = np.sqrt(((surface(a)[:, None] - surface(b)[None]) ** 2).sum(-1))
    return max(np.percentile(table.min(1), 95), np.percentile(table.min(0), 95))


@settings(max_examples=60, deadline=None)
@given(pairs, st.sampled_from([0.5, 1.0, 3.0]))
def test_surface_distance_by_its_definition(pair, size):
    prediction, label = pair
    spacing = np.array([size, 1.0, 2.0])[: label.ndim]
    found = hd95_per_class(prediction, label, 3, spacing)
    for c, value in zip((1, 2), found, strict=True):
        a, b = (prediction == c) & (label >= 0), label == c
        if a.any() and b.any():
            assert value == pytest.approx(twin_hd95(a, b, spacing), abs=1e-9)
        else:
            assert np.isnan(value)


@settings(max_examples=40, deadline=None)
@given(pairs)
def test_turning_the_grid_over_changes_nothing(pair):
    prediction, label = pair
    turned = tuple(np.flip(m).T for m in pair)
    for function in (dice_per_class, iou_per_class, hd95_per_class):
        np.testing.assert_allclose(function(*turned, 3), function(prediction, label, 3), rtol=1e-12)
        if (label >= 0).all():
            np.testing.assert_allclose(
                function(label, prediction, 3), function(prediction, label, 3), rtol=1e-12
            )
    masks, others = (
        region_masks(prediction, label, regions=ALL_REGIONS),
        region_masks(*turned, regions=ALL_REGIONS),
    )
    for name in ALL_REGIONS:
        np.testing.assert_array_equal(np.flip(masks[name]).T, others[name])
    values = np.random.default_rng(0).random(label.shape)
    for name, function in AGGREGATIONS.items():
        there, back = function(values, prediction), function(np.flip(values).T, turned[0])
        assert there == pytest.approx(back, abs=1e-12), name


@pytest.mark.needs_monai
@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
def test_surface_distance_agrees_with_monai():
    import torch

    metrics = pytest.importorskip("monai.metrics", reason="needs the train extra")
    random = np.random.default_rng(0)
    label = (ndimage.gaussian_filter(random.normal(size=(24, 20, 16)), 3) > 0.01).astype(int)
    prediction = (ndimage.gaussian_filter(random.normal(size=(24, 20, 16)), 3) > 0.01).astype(int)
    spacing = (1.0, 0.7, 2.5)
    theirs = metrics.compute_hausdorff_distance(
        torch.from_numpy(np.stack([1 - prediction, prediction])[None]).float(),
        torch.from_numpy(np.stack([1 - label, label])[None]).float(),
        percentile=95,
        spacing=spacing,
    )
    assert hd95_per_class(prediction, label, 2, spacing)[0] == pytest.approx(theirs.item(), rel=1e-5)


def test_surface_distance_needs_one_spacing_per_axis():
    two = np.zeros((3, 3), int)
    with pytest.raises(InputError, match="2 positive"):
        hd95_per_class(two, two, 2, (1.0,))
    with pytest.raises(InputError, match="one shape"):
        hd95_per_class(two, two[:2], 2)


def twin_filtered(u, prediction, label, c):
    """Dice, FTP and FTN at 0, 1, ..., 100 per cent, threshold by threshold."""
    rows = []
    for tau in np.arange(101) / 100:
        kept = (u <= tau) & (label >= 0)
        a, b = (prediction == c) & kept, (label == c) & kept
        rows.append([(a & b).sum(), a.sum() + b.sum(), (kept & ~a & ~b).sum()])
    tp, sizes, tn = np.array(rows, float).T
    nan = np.full(101, np.nan)
    dice = np.where(sizes > 0, 2 * tp / np.maximum(sizes, 1), 1) if sizes[-1] else nan
    return dice, (tp[-1] - tp) / tp[-1] if tp[-1] else nan, (tn[-1] - tn) / tn[-1] if tn[-1] else nan


def filtered(u, prediction, label, classes=3):
    state = FilteredState(classes)
    state.update(u, prediction, label)
    return state


cases = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 2), st.integers(-1, 2)), min_size=1, max_size=30
).map(np.array)


@settings(max_examples=60, deadline=None)
@given(cases)
def test_filtered_curves_by_their_definitions(table):
    u, prediction, label = table[:, 0] / 100, table[:, 1], table[:, 2]
    state = filtered(u, prediction, label)
    for c in (1, 2):
        dice, ftp, ftn = twin_filtered(u, prediction, label, c)
        np.testing.assert_allclose(state.dice[c - 1], dice, atol=1e-12)
        np.testing.assert_allclose(state.filtered_true_positives[c - 1], ftp, atol=1e-12)
        np.testing.assert_allclose(state.filtered_true_negatives[c - 1], ftn, atol=1e-12)
        areas = [np.trapezoid(v, dx=0.01) for v in (dice, ftp, ftn)]
        np.testing.assert_allclose(state.score[c - 1], (areas[0] + 2 - areas[1] - areas[2]) / 3, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(cases, st.integers(0, 30), st.randoms(use_true_random=False))
def test_filtered_counts_do_not_depend_on_order_or_chunks(table, cut, random):
    u, prediction, label = (table[:, 0] / 100).astype(np.float32), table[:, 1], table[:, 2]
    whole = filtered(u, prediction, label)
    order = list(range(len(u)))
    random.shuffle(order)
    assert filtered(u[order], prediction[order], label[order]) == whole
    parts = filtered(u[:cut], prediction[:cut], label[:cut]), filtered(u[cut:], prediction[cut:], label[cut:])
    assert parts[0] + parts[1] == parts[1] + parts[0] == whole


def test_per_cents_in_float32_are_their_own_thresholds():
    u = (np.arange(101) / 100).astype(np.float32)
    state = filtered(u, np.ones(101, int), np.ones(101, int), 2)
    np.testing.assert_array_equal(state.counts[1, 1], 1)


def test_a_certain_and_right_segmentation_scores_one():
    label = np.array([0, 0, 1, 1])
    assert filtered(np.zeros(4), label, label, 2).score.tolist() == [1.0]


def test_filtered_input_is_checked():
    one = np.zeros(1, int)
    for arguments, text in (
        ((np.zeros(2), one, one), "as many"),
        ((one + 2, one, one), "outside"),
        ((one * np.nan, one, one), "NaN"),
        ((one, one + 2, one), "class is unknown"),
        ((one, one - 1, one), "class is unknown"),
    ):
        with pytest.raises(InputError, match=text):
            FilteredState(2).update(*arguments)
    with pytest.raises(ConfigError, match="1 classes"):
        FilteredState(1)
    with pytest.raises(ConfigError, match="do not add up"):
        FilteredState(2) + FilteredState(3)


def twin_components(values, segmentation):
    """Flood fill, voxel by voxel."""
    left, total = {tuple(p) for p in np.argwhere(segmentation > 0)}, 0.0
    while left:
        waiting, found = [left.pop()], []
        while waiting:
            place = waiting.pop()
            found.append(values[place])
            for axis in range(values.ndim):
                for step in (-1, 1):
                    other = (*place[:axis], place[axis] + step, *place[axis + 1 :])
                    if other in left:
                        left.remove(other)
                        waiting.append(other)
        total += np.mean(found, dtype=float)
    return total


@settings(max_examples=60, deadline=None)
@given(maps, st.integers(1, 4))
def test_aggregations_by_their_definitions(pair, edge):
    values, segmentation = pair
    wide, inside = values.astype(float), segmentation > 0
    away = twin_distance(twin_boundary(segmentation))
    far = away > 2
    weight = np.minimum(away, 5)
    windows = sliding_window_view(wide, [min(edge, n) for n in wide.shape])
    expected = {
        "mean": wide.mean(),
        "foreground_mean": wide[inside].mean() if inside.any() else wide.mean(),
        "boundary_excluded": wide[far].mean() if far.any() else wide.mean(),
        "distance_weighted": (wide * weight).sum() / weight.sum() if weight.any() else wide.mean(),
        "component_sum": twin_components(values, segmentation),
    }
    for name, value in expected.items():
        assert AGGREGATIONS[name](values, segmentation) == pytest.approx(value, abs=1e-9), name
    best = windows.mean(tuple(range(wide.ndim, 2 * wide.ndim))).max()
    assert top_patch(values, segmentation, edge) == pytest.approx(best, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(maps)
def test_aggregations_grow_with_the_map(pair):
    values, segmentation = pair
    for name, function in AGGREGATIONS.items():
        assert function(values + 1, segmentation) >= function(values, segmentation) - 1e-9, name


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_aggregations_of_an_empty_prediction_and_an_empty_map(name):
    values = np.arange(8.0).reshape(2, 4)
    empty = np.zeros((2, 4), int)
    assert AGGREGATIONS[name](values, empty) == (0 if name == "component_sum" else values.mean())
    assert np.isnan(AGGREGATIONS[name](np.zeros((0, 4)), np.zeros((0, 4), int)))
    with pytest.raises(InputError, match="one shape"):
        AGGREGATIONS[name](values, empty[:1])


def test_aggregations_look_where_they_say():
    segmentation = np.zeros(21, int)
    segmentation[10:13] = 1
    doubt_at_the_edge = np.zeros(21)
    doubt_at_the_edge[9:14] = 1
    assert boundary_excluded(doubt_at_the_edge, segmentation) == 0
    assert distance_weighted(doubt_at_the_edge, segmentation) < doubt_at_the_edge.mean() / 4
    assert component_sum(doubt_at_the_edge, segmentation) == 1
    with pytest.raises(InputError, match="patch"):
        top_patch(doubt_at_the_edge, segmentation, 0)
