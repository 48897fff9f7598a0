"""From the file's grid to the network's and back: exact where it can be, in the right place where it cannot."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import center_of_mass

from sfumato.imaging import Geometry
from sfumato.pipeline.grid import ModelGrid

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
ORIENTATIONS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]
orientations = st.sampled_from(ORIENTATIONS)


def affine_of(order, signs, spacing=(1.0, 1.0, 1.0), tilt=0.0, origin=(10.0, -20.0, 5.0)) -> np.ndarray:
    """Axes laid as `order` and `signs` say, then turned by `tilt` about an oblique axis."""
    axis = np.array([0.6, -0.48, 0.64])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + np.sin(tilt) * cross + (1 - np.cos(tilt)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, order] * signs) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def world_blob(geometry: Geometry, centre: np.ndarray, radius: float) -> np.ndarray:
    """A Gaussian around a point of the world, seen on a grid."""
    index = np.indices(geometry.shape).reshape(3, -1)
    world = geometry.affine[:3, :3] @ index + geometry.affine[:3, 3:]
    distance = np.linalg.norm(world - centre[:, None], axis=0)
    return np.exp(-0.5 * (distance / radius) ** 2).reshape(geometry.shape).astype(np.float32)


def world_centre(array: np.ndarray, geometry: Geometry) -> np.ndarray:
    return geometry.affine[:3, :3] @ np.array(center_of_mass(array)) + geometry.affine[:3, 3]


@given(
    orientation=orientations,
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    tilt=st.floats(-0.6, 0.6),
    slice_first=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(REPEATABLE, max_examples=100)
def test_there_and_back_is_the_identity(orientation, shape, spacing, tilt, slice_first, seed):
    grid = ModelGrid(Geometry(shape, affine_of(*orientation, spacing, tilt)), slice_first)
    labels = np.random.default_rng(seed).integers(0, 255, (2, *shape)).astype(np.uint8)
    there = grid.to_network(labels, order=0)
    assert there.dtype == np.uint8
    assert not grid.resamples
    np.testing.assert_array_equal(grid.to_file(there, order=0), labels)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_network_sees_right_anterior_superior(order, signs):
    """Values that count millimetres to the right, the front and the top must grow along the network's axes."""
    geometry = Geometry((4, 5, 6), affine_of(order, signs, (1.0, 2.0, 3.0)))
    index = np.indices(geometry.shape).reshape(3, -1)
    world = (geometry.affine[:3, :3] @ index).reshape(3, *geometry.shape)
    seen = ModelGrid(geometry).to_network(world, order=1)
    for axis in range(3):
        steps = np.diff(seen[axis], axis=axis)
        assert (steps > 0).all()
        assert np.allclose(steps, steps.flat[0])


def test_pictures_are_left_alone():
    grid = ModelGrid(Geometry((4, 5)), spacing=(2.0, 2.0, 2.0))
    array = np.arange(20.0).reshape(1, 4, 5)
    assert grid.to_network(array, order=1) is array
    assert grid.to_file(array, order=1) is array


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((1.0, 1.0, 5.0), (8, 9, 3), 2),
        ((5.0, 1.0, 1.0), (3, 8, 9), 0),
        ((1.0, 1.1, 1.0), (8, 8, 8), 2),  # nearly isotropic: the last
        ((1.0, 1.0, 1.0), (1, 8, 9), 0),  # a single slice, however it lies
        ((1.0, 3.0, 1.0), (8, 1, 9), 1),
        ((1.0, 1.0, 4.0), (1, 8, 1), 2),  # a line: the thickest
    ],
)
def test_slices_are_taken_across_the_thickest_axis(spacing, shape, axis):
    grid = ModelGrid(Geometry(shape, np.diag([*spacing, 1.0])), slice_first=True)
    assert grid.slice_axis == axis
    assert grid.to_network(np.zeros((1, *shape)), order=1).shape == (1, shape[axis], *np.delete(shape, axis))


@given(
    orientation=orientations,
    spacing=st.tuples(*[st.floats(0.8, 2.0)] * 3),
    wanted=st.tuples(*[st.floats(0.8, 2.0)] * 3),
    tilt=st.floats(-0.5, 0.5),
    slice_first=st.booleans(),
)
@REPEATABLE
def test_a_blob_stays_where_it_is_in_the_world(orientation, spacing, wanted, tilt, slice_first):
    shape = tuple(int(np.ceil(30 / s)) for s in spacing)
    geometry = Geometry(shape, affine_of(*orientation, spacing, tilt))
    middle = geometry.affine @ np.array([*(np.array(shape) / 2 + [1.0, -1.0, 0.5]), 1])
    blob = world_blob(geometry, middle[:3], radius=3.0)
    grid = ModelGrid(geometry, slice_first, wanted)
    there = grid.to_network(blob[None], order=1)
    # RAS millimetres between voxels of the network's grid, seen through its mass: the blob keeps its volume.
    if grid.resamples:
        assert there.sum() * np.prod(wanted) == pytest.approx(blob.sum() * np.prod(spacing), rel=0.02)
    back = grid.to_file(there, order=1)[0]
    assert back.shape == blob.shape
    np.testing.assert_allclose(world_centre(back, geometry), middle[:3], atol=0.1)
    assert np.abs(back - blob).max() < 0.25


def test_resampling_to_another_spacing_has_the_expected_grid():
    geometry = Geometry((10, 20, 30), np.diag([1.0, 1.0, 2.0, 1.0]))
    grid = ModelGrid(geometry, spacing=(2.0, 0.5, 2.0))
    assert grid.to_network(np.zeros((1, 10, 20, 30), np.float32), order=1).shape == (1, 5, 40, 30)


def test_rounding_adds_no_plane():
    """Sides are counted through a rotated affine, so 20 planes are 20.000000000000004 now and then."""
    for tilt in np.linspace(0.1, 1.5, 12):
        geometry = Geometry((10, 10, 10), affine_of((0, 1, 2), (1, 1, 1), (0.6, 0.6, 0.6), tilt))
        grid = ModelGrid(geometry, spacing=(0.3, 0.3, 0.3))
        assert grid.to_network(np.zeros((1, 10, 10, 10), np.uint8), order=0).shape == (1, 20, 20, 20)


def test_a_ramp_is_interpolated_exactly():
    geometry = Geometry((8, 9, 10), np.diag([1.0, 1.0, 2.0, 1.0]))
    world = np.indices(geometry.shape)[2].astype(np.float32) * 2  # millimetres upwards
    there = ModelGrid(geometry, spacing=(1.0, 1.0, 0.5)).to_network(world[None], order=1)[0]
    # 40 planes of 0.5 mm around the same centre (9 mm): the first lies at 9 - 39 / 4 mm, clamped to 0.
    expected = np.clip(9 + (np.arange(40) - 19.5) * 0.5, 0, 18)
    np.testing.assert_allclose(there[3, 4], expected, atol=1e-5)


@pytest.mark.parametrize("slice_first", [False, True])
def test_sheared_grids_are_seen_whole_and_come_back(slice_first):
    affine = np.array([[1, 0, 0.9, 7], [0, 1, 0, -3], [0, 0, 1.5, 9], [0, 0, 0, 1]], float)
    geometry = Geometry((24, 20, 16), affine)
    grid = ModelGrid(geometry, slice_first)
    assert grid.resamples
    labels = np.zeros((1, 24, 20, 16), np.uint8)
    places = [(slice(None, 3), slice(-3, None))] * 3
    for value, corner in enumerate(
        product(*places), start=1
    ):  # corners lean out of a box of the file's own size
        labels[(0, *corner)] = value
    labels[0, 10:15, 8:13, 5:11] = 9
    back = grid.to_file(grid.to_network(labels, order=0), order=0)
    assert back.shape == labels.shape
    for value in range(1, 10):
        both = ((back == value) & (labels == value)).sum()
        assert 2 * both / ((back == value).sum() + (labels == value).sum()) > 0.75, value
    blob = world_blob(geometry, affine[:3, :3] @ [12, 10, 8] + affine[:3, 3], radius=3.0)
    returned = grid.to_file(grid.to_network(blob[None], order=1), order=1)[0]
    np.testing.assert_allclose(world_centre(returned, geometry), world_centre(blob, geometry), atol=0.1)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float16, np.float32])
def test_resampling_keeps_the_type_and_the_range(kind):
    """Results are stored as codes of 1/255 and as float16; they must come back as what they are."""
    grid = ModelGrid(Geometry((6, 7, 8), np.diag([1.0, 1, 2, 1])), spacing=(1.0, 1.0, 1.6))
    codes = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 10)).astype(kind)
    for order in (0, 1, 3):
        back = grid.to_file(codes, order)
        assert back.dtype == kind
        assert back.shape == (2, 6, 7, 8)
    linear = grid.to_file(codes, 1)
    exact = grid.to_file(codes.astype(np.float32), 1)
    np.testing.assert_allclose(
        linear.astype(np.float32), exact, atol=0.5 if kind in (np.uint8, np.int16) else 0.07
    )
