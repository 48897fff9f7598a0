"""Headers that can be trusted, and those that cannot."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import GeometryError
from sfumato.imaging import Geometry, read_image, same_grid, write_nifti
from sfumato.imaging.geometry import SHEAR_TOLERANCE, check_geometry, corner_distance

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)


def save_forms(path, sform, qform=None, shape=(5, 6, 7), codes=(1, 1)):
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), sform)
    image.set_sform(sform, codes[0])
    image.set_qform(sform if qform is None else qform, codes[1])
    nib.save(image, path)
    return path


def turned(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation about an axis through the origin, by Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return affine


SHEARED = np.array([[1, 0.2, 0, 5], [0, 1, 0, -3], [0, 0, 2, 9], [0, 0, 0, 1]], float)


def test_spacing_volume_and_shear():
    affine = turned(np.array([1.0, 2, 3]), 0.7) @ np.diag([0.5, 2.0, 3.0, 1.0])
    geometry = Geometry((4, 5, 6), affine)
    np.testing.assert_allclose(geometry.spacing, (0.5, 2.0, 3.0))
    assert geometry.voxel_ml == pytest.approx(0.003)
    assert geometry.shear < 1e-12
    assert Geometry((4, 5, 6), SHEARED).shear == pytest.approx(0.2 / np.sqrt(1.04))
    assert Geometry((4, 5)).spacing == (1.0, 1.0)


def test_the_volume_of_a_sheared_voxel_is_its_determinant():
    assert Geometry((4, 5, 6), SHEARED).voxel_ml == pytest.approx(0.002)


@given(shift=st.tuples(*[st.floats(-50, 50)] * 3))
@REPEATABLE
def test_corner_distance_of_a_shift_is_its_length(shift):
    moved = np.eye(4)
    moved[:3, 3] = shift
    assert corner_distance((4, 5, 6), np.eye(4), moved) == pytest.approx(float(np.linalg.norm(shift)))


@given(angle=st.floats(0, 0.5), shape=st.tuples(*[st.integers(1, 40)] * 3))
@REPEATABLE
def test_corner_distance_is_the_largest_of_all_voxels(angle, shape):
    other = turned(np.array([1.0, -1, 0.5]), angle)
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    moved = np.linalg.norm(voxels @ other[:3, :3].T - voxels, axis=1).max()
    assert corner_distance(shape, np.eye(4), other) == pytest.approx(moved, abs=1e-9)


def test_same_grid_allows_half_a_voxel():
    one = Geometry((4, 5, 6), np.diag([2.0, 2, 4, 1]))
    near, far = np.diag([2.0, 2, 4, 1]), np.diag([2.0, 2, 4, 1])
    near[0, 3], far[0, 3] = 0.99, 1.01
    assert same_grid(one, Geometry((4, 5, 6), near))
    assert not same_grid(one, Geometry((4, 5, 6), far))
    assert not same_grid(one, Geometry((4, 6, 5), one.affine))


# ---- sheared and singular


def test_sheared_is_refused_unless_it_may_be_resampled(tmp_path):
    path = save_forms(tmp_path / "case.nii", SHEARED, codes=(1, 0))
    with pytest.raises(GeometryError, match=r"case.nii: the grid axes are sheared .* --resample"):
        read_image(path)
    image = read_image(path, resample=True)
    np.testing.assert_allclose(image.geometry.affine, SHEARED, atol=1e-6)
    write_nifti(tmp_path / "out.nii", np.ones((5, 6, 7), np.uint8), image.geometry)
    out, before = nib.load(tmp_path / "out.nii").header, nib.load(path).header
    assert [out[f"srow_{a}"].tobytes() for a in "xyz"] == [before[f"srow_{a}"].tobytes() for a in "xyz"]


@pytest.mark.parametrize("cosine", [0.2 * SHEAR_TOLERANCE, 5 * SHEAR_TOLERANCE])
def test_shear_is_measured_by_the_angle(tmp_path, cosine):
    affine = np.diag([1.0, 1, 1, 1])
    affine[0, 1] = cosine
    path = save_forms(tmp_path / "case.nii", affine, codes=(1, 0))
    if cosine > SHEAR_TOLERANCE:
        with pytest.raises(GeometryError, match="sheared"):
            read_image(path)
    else:
        read_image(path)


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e3])
def test_small_voxels_are_not_singular(size):
    check_geometry(Geometry((4, 5, 6), np.diag([size, size, size, 1])), "case")


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([1.0, 1, 0, 1]),
        np.array([[1, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.diag([1, np.nan, 1, 1]),
        np.diag([1, np.inf, 1, 1]),
    ],
)
def test_singular_is_refused_even_for_resampling(matrix):
    with pytest.raises(GeometryError, match="case: the affine is singular or not finite"):
        check_geometry(Geometry((4, 5, 6), matrix), "case", resample=True)


def test_a_file_with_a_singular_sform_is_refused(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.header["srow_z"] = 0
    image.header["sform_code"] = 1
    (tmp_path / "case.nii").write_bytes(_bytes_with_forms(image))
    with pytest.raises(GeometryError, match=r"case.nii: the affine is singular"):
        read_image(tmp_path / "case.nii", resample=True)


def _bytes_with_forms(image: nib.Nifti1Image) -> bytes:
    """The file's bytes with the header's forms as they are, which nibabel would set from its affine."""
    return nib.Nifti1Image(image.dataobj, None, image.header).to_bytes()


# ---- qform against sform


@pytest.mark.parametrize(
    "qform",
    [
        np.array([[1, 0, 0, 3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),  # shifted
        np.diag([-1.0, 1, 1, 1]),  # mirrored
        turned(np.array([0, 0, 1.0]), 0.3),  # turned
        turned(
            np.array([1.0, 1, 1]), 2 * np.pi / 3
        ),  # turned about the diagonal: two corners stay where they are
    ],
    ids=["shifted", "mirrored", "turned", "diagonal"],
)
def test_contradictory_forms_are_refused(tmp_path, qform):
    path = save_forms(tmp_path / "case.nii.gz", np.eye(4), qform, shape=(6, 6, 6))
    with pytest.raises(GeometryError, match=r"case.nii.gz: qform and sform disagree by .* --resample"):
        read_image(path)
    np.testing.assert_array_equal(read_image(path, resample=True).geometry.affine, np.eye(4))


def test_forms_may_differ_by_rounding(tmp_path):
    affine = turned(np.array([0.3, -0.5, 0.8]), 1.1) @ np.diag([0.7, 0.7, 1.3, 1.0])
    read_image(save_forms(tmp_path / "case.nii", affine, shape=(200, 180, 160)))


@pytest.mark.parametrize("codes", [(1, 0), (0, 1)])
def test_a_form_whose_code_is_zero_does_not_count(tmp_path, codes):
    shifted = np.eye(4)
    shifted[0, 3] = 40
    geometry = read_image(save_forms(tmp_path / "case.nii", np.eye(4), shifted, codes=codes)).geometry
    np.testing.assert_array_equal(geometry.affine, np.eye(4) if codes[0] else shifted)


def test_a_qform_that_is_no_rotation_is_named(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 5, 6), np.uint8), np.eye(4))
    image.header["qform_code"] = 1
    for name in ("quatern_b", "quatern_c", "quatern_d"):
        image.header[name] = 0.9
    (tmp_path / "case.nii").write_bytes(_bytes_with_forms(image))
    with pytest.raises(GeometryError, match=r"case.nii: the qform is not a rotation"):
        read_image(tmp_path / "case.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "case.nii", resample=True).geometry.affine, np.eye(4))
