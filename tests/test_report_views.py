"""Which planes a page shows, how they are turned, and where the worst region is."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sfumato.imaging import Geometry
from sfumato.report.views import LEAST_VOXELS, tilt, views_of
from sfumato.report.worst import block_mean, worst_centre

WORLD = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
SHAPE = (7, 9, 11)
NOTHING = np.zeros(SHAPE, np.uint8)


def signed_permutations() -> list[np.ndarray]:
    matrices = []
    for order, signs in product(permutations(range(3)), product((-1.0, 1.0), repeat=3)):
        matrix = np.eye(4)
        matrix[:3, :3] = np.eye(3)[list(order)] * signs
        matrix[:3, 3] = (5.0, -3.0, 8.0)
        matrices.append(matrix)
    return matrices


def world_coordinates(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    index = np.indices(shape).reshape(3, -1)
    return (affine[:3, :3] @ index + affine[:3, 3:]).reshape(3, *shape)


def ends(plane: np.ndarray) -> tuple[float, float, float, float]:
    """Means at the left, right, top and bottom edge."""
    return plane[:, 0].mean(), plane[:, -1].mean(), plane[0].mean(), plane[-1].mean()


@pytest.mark.parametrize("tilted", [0.0, 20.0])
@pytest.mark.parametrize("matrix", signed_permutations())
def test_letters_name_the_direction_in_which_the_edges_lie(matrix: np.ndarray, tilted: float) -> None:
    affine = matrix.copy()
    turn = Rotation.from_euler("xyz", [tilted, tilted / 2, -tilted / 2], degrees=True).as_matrix()
    affine[:3, :3] = turn @ matrix[:3, :3] @ np.diag([1.0, 2.0, 4.0])
    world = world_coordinates(affine, SHAPE)
    views = views_of(Geometry(SHAPE, affine), (2, 3, 4), NOTHING)
    assert [v.title for v in views] == ["Axial", "Coronal", "Sagittal"]
    assert [v.letters for v in views] == [("R", "L", "A", "P"), ("R", "L", "S", "I"), ("A", "P", "S", "I")]
    for view in views:
        assert view.letters is not None
        for at, letter in enumerate(view.letters):
            axis, sign = WORLD[letter]
            left, right, top, bottom = (sign * e for e in ends(view.take(world[axis])))
            here, opposite = ((left, right), (right, left), (top, bottom), (bottom, top))[at]
            assert here > opposite


@pytest.mark.parametrize("matrix", signed_permutations())
def test_the_cross_lies_on_the_chosen_voxel(matrix: np.ndarray) -> None:
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    for view in views_of(Geometry(SHAPE, matrix), (2, 3, 4), NOTHING):
        row, column = (round(c) for c in view.centre)
        assert view.take(array)[row, column] == array[2, 3, 4]


def test_a_bright_spot_on_the_right_front_is_drawn_top_left() -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # index 0 is at the patient's right and front
    image = np.zeros((20, 20, 5), np.float32)
    image[2, 3, 2] = 1
    axial = views_of(Geometry(image.shape, affine), (2, 3, 2), image > 2)[0].take(image)
    assert np.argwhere(axial).tolist() == [[3, 2]]


def test_spacing_follows_rows_and_columns() -> None:
    axial, coronal, sagittal = views_of(Geometry(SHAPE, np.diag([1.0, 2.0, 8.0, 1.0])), (2, 3, 4), NOTHING)
    assert (axial.spacing, coronal.spacing, sagittal.spacing) == ((2.0, 1.0), (8.0, 1.0), (8.0, 2.0))


def test_a_small_structure_in_a_large_volume_is_cropped_with_a_margin() -> None:
    shape = (400, 300, 50)
    segmentation = np.zeros(shape, np.uint8)
    segmentation[300:340, 100:110, 20:25] = 1
    world = np.indices(shape, sparse=True)
    for view in views_of(Geometry(shape, np.diag([-1.0, 1.0, 2.0, 1.0])), (305, 105, 22), segmentation):
        plane = view.take(segmentation)
        assert (
            plane.sum()
            == segmentation[tuple(slice(None) if isinstance(i, slice) else i for i in view.index)].sum()
        )
        row, column = (round(c) for c in view.centre)
        voxel = [view.take(np.broadcast_to(w, shape))[row, column] for w in world]
        assert voxel == [305, 105, 22]
    axial = views_of(Geometry(shape), (305, 105, 22), segmentation)[0]
    assert axial.take(segmentation).shape == (LEAST_VOXELS, LEAST_VOXELS)
    assert axial.share == pytest.approx((LEAST_VOXELS / 300, LEAST_VOXELS / 400))


def test_an_empty_segmentation_shows_whole_planes() -> None:
    shape = (300, 300, 4)
    for view in views_of(Geometry(shape), (5, 5, 2), np.zeros(shape, np.uint8)):
        assert view.share == (1.0, 1.0)


def test_very_large_pictures_are_thinned_out() -> None:
    labels = np.zeros((3000, 1500), np.uint8)
    (view,) = views_of(Geometry(labels.shape), (2400, 700), labels)
    assert view.take(labels).shape == (1000, 750)
    assert (view.spacing, view.centre) == ((3.0, 2.0), (800.0, 350.0))


def test_a_single_plane_is_one_view_and_a_line_of_voxels_still_has_views() -> None:
    assert [v.title for v in views_of(Geometry((8, 9, 1)), (4, 4, 0), np.zeros((8, 9, 1)))] == ["Axial"]
    assert len(views_of(Geometry((8, 1, 1)), (4, 0, 0), np.zeros((8, 1, 1)))) == 3


def test_tilt_is_the_angle_to_the_nearest_axis() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 30, degrees=True).as_matrix() @ np.diag([-1.0, 2.0, 5.0])
    assert tilt(affine) == pytest.approx(30.0)


@pytest.mark.parametrize("factors", [(1, 1, 1), (2, 3, 4), (7, 9, 11), (3, 1, 5)])
def test_block_mean_is_the_mean_of_each_block(factors: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    made = block_mean(array, factors)
    np.testing.assert_allclose(block_mean(np.asfortranarray(array), factors), made, rtol=1e-5)
    for index in np.ndindex(made.shape):
        block = array[tuple(slice(i * f, (i + 1) * f) for i, f in zip(index, factors, strict=True))]
        assert made[index] == pytest.approx(block.mean(), rel=1e-5)


def test_a_region_outweighs_a_lone_bright_voxel() -> None:
    values = np.zeros((40, 40, 40), np.float32)
    values[5, 5, 5] = 1.0
    values[24:31, 24:31, 24:31] = 0.4
    centre, found = worst_centre(values, (1.0, 1.0, 1.0), values > 1)
    assert found
    assert centre == (27, 27, 27)


def test_the_worst_region_of_a_large_map_is_found_on_blocks() -> None:
    values = np.zeros((300, 280, 120), np.uint8)
    values[200:212, 40:52, 90:96] = 200
    centre, found = worst_centre(values, (1.0, 1.0, 2.0), values > 255)
    assert found
    assert np.abs(np.array(centre) - (206, 46, 93)).max() <= 4


@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_a_constant_map_points_to_the_middle_of_the_segmentation(value: float) -> None:
    segmentation = np.zeros((30, 30), np.uint8)
    assert worst_centre(np.full((30, 30), value), (1.0, 1.0), segmentation) == ((14, 14), False)
    segmentation[20:25, 5:8] = 1
    assert worst_centre(np.full((30, 30), value), (1.0, 1.0), segmentation) == ((22, 6), False)
