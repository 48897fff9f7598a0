"""Files in and out: geometry kept bit for bit, values kept, text left behind, damage refused in one sentence."""

from __future__ import annotations

import gzip
import tempfile
import warnings
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from sfumato.errors import GeometryError, InputError, SfumatoError
from sfumato.imaging import (
    Geometry,
    picture_suffix,
    read_image,
    read_label,
    stem_of,
    suffix_of,
    write_image_picture,
    write_label_picture,
    write_map_picture,
    write_nifti,
)

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
ORIENTATIONS = [
    (order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]  # all 48 ways to lay three axes
GEOMETRY_FIELDS = (
    *("srow_x", "srow_y", "srow_z", "sform_code", "qform_code"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "xyzt_units"),
)
SECRET = b"DOE^JANE"


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def oblique_affine(
    order, signs, spacing=(0.8, 1.25, 3.0), angles=(0.0, 0.0, 0.0), origin=(-31.7, 12.9, 250.1)
):
    permuted = np.eye(3)[:, order] * signs
    affine = np.eye(4)
    affine[:3, :3] = rotation(angles) @ permuted @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


def save_nifti(
    path: Path, array: np.ndarray, affine: np.ndarray, codes=(1, 1), scale=None, kind=nib.Nifti1Image
):
    image = kind(array, affine)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1])
    image.header.set_xyzt_units("mm", "sec")
    if scale is not None:
        image.header.set_slope_inter(*scale)
    nib.save(image, path)
    return nib.load(path).header


def same_geometry(before, after) -> bool:
    fields = all(before[f].tobytes() == after[f].tobytes() for f in GEOMETRY_FIELDS)
    affines = before.get_best_affine().tobytes() == after.get_best_affine().tobytes()
    return fields and affines and before["pixdim"][:4].tobytes() == after["pixdim"][:4].tobytes()


# ---- NIfTI round trip


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_every_orientation_comes_back_bit_for_bit(tmp_path, order, signs):
    rng = np.random.default_rng(7)
    values = rng.integers(-500, 1500, (4, 5, 6, 2)).astype(np.int16)
    affine = oblique_affine(order, signs, angles=(0.3, -0.2, 0.1))
    before = save_nifti(tmp_path / "in.nii.gz", values, affine, scale=(0.5, -100.0))
    image = read_image(tmp_path / "in.nii.gz")
    assert image.array.shape == (2, 4, 5, 6)
    np.testing.assert_array_equal(np.moveaxis(image.array, 0, -1), values * 0.5 - 100.0)
    labels = rng.integers(0, 4, (4, 5, 6)).astype(np.uint8)
    write_nifti(tmp_path / "label.nii.gz", labels, image.geometry)
    write_nifti(tmp_path / "map.nii", image.array, image.geometry)
    for name in ("label.nii.gz", "map.nii"):
        assert same_geometry(before, nib.load(tmp_path / name).header), name
    read = read_label(tmp_path / "label.nii.gz")
    np.testing.assert_array_equal(read.array, labels)
    np.testing.assert_array_equal(read.geometry.affine, image.geometry.affine)
    np.testing.assert_array_equal(read_image(tmp_path / "map.nii").array, image.array)


@given(
    orientation=st.sampled_from(ORIENTATIONS),
    spacing=st.tuples(*[st.floats(1 / 128, 12.0, width=32)] * 3),
    angles=st.tuples(*[st.floats(-3.0, 3.0, width=32)] * 3),
    origin=st.tuples(*[st.floats(-2000, 2000, width=32)] * 3),
    codes=st.sampled_from([(1, 1), (2, 1), (4, 3), (1, 0), (0, 1), (2, 0)]),
    kind=st.sampled_from([nib.Nifti1Image, nib.Nifti2Image]),
)
@REPEATABLE
def test_geometry_survives_whatever_it_is(orientation, spacing, angles, origin, codes, kind):
    affine = oblique_affine(*orientation, spacing, angles, origin)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        before = save_nifti(path / "in.nii", np.zeros((3, 4, 5), np.uint8), affine, codes, kind=kind)
        image = read_image(path / "in.nii")
        write_nifti(path / "out.nii.gz", np.ones((3, 4, 5), bool), image.geometry)
        after = nib.load(path / "out.nii.gz")
        assert same_geometry(before, after.header)
        assert type(after) is kind


def test_header_without_any_form_keeps_its_spacing(tmp_path):
    raw = nib.Nifti1Image(np.zeros((3, 4, 5), np.uint8), None)
    raw.header["pixdim"][1:4] = (2, 3, 4)
    nib.save(raw, tmp_path / "in.nii")
    before = nib.load(tmp_path / "in.nii").header
    write_nifti(tmp_path / "out.nii", np.zeros((3, 4, 5), np.uint8), read_image(tmp_path / "in.nii").geometry)
    after = nib.load(tmp_path / "out.nii").header
    assert same_geometry(before, after)
    assert (int(after["sform_code"]), int(after["qform_code"])) == (0, 0)
    assert after.get_zooms() == (2, 3, 4)


def test_big_endian_files_are_read_and_written(tmp_path):
    header = nib.Nifti1Header(endianness=">")
    values = np.arange(60, dtype=">i2").reshape(3, 4, 5)
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 3, 1]), header), tmp_path / "in.nii")
    image = read_image(tmp_path / "in.nii")
    np.testing.assert_array_equal(image.array[0], values)
    write_nifti(tmp_path / "out.nii", values.astype(np.int16), image.geometry)
    np.testing.assert_array_equal(nib.load(tmp_path / "out.nii").get_fdata(), values)


def test_two_dimensional_nifti_is_a_volume_of_one_slice(tmp_path):
    nib.save(nib.Nifti1Image(np.arange(20, dtype=np.int16).reshape(4, 5), np.eye(4)), tmp_path / "in.nii")
    image = read_image(tmp_path / "in.nii")
    assert image.array.shape == (1, 4, 5, 1)
    assert image.geometry.shape == (4, 5, 1)
    write_nifti(tmp_path / "out.nii", image.array[0], image.geometry)
    assert nib.load(tmp_path / "out.nii").shape[:2] == (4, 5)


def test_five_axes_with_one_time_point_are_channels(tmp_path):
    values = np.random.default_rng(0).random((3, 4, 5, 1, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / "in.nii")
    np.testing.assert_array_equal(
        read_image(tmp_path / "in.nii").array, np.moveaxis(values[:, :, :, 0], -1, 0)
    )


@given(
    values=hnp.arrays(np.float32, (3, 4, 5), elements=st.floats(-1000, 1000, width=32)),
    margin=st.floats(0, 10),
)
@REPEATABLE
def test_quantised_maps_are_within_a_510th_of_their_range(values, margin):
    low, high = float(values.min()) - margin, float(values.max()) + margin
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "map.nii.gz"
        write_nifti(path, values, Geometry((3, 4, 5)), (low, high))
        stored = nib.load(path)
        assert stored.get_data_dtype() == np.uint8
        decoded = stored.get_fdata()
    rounding = 1e-6 * max(abs(low), abs(high), 1e-30)  # slope and offset are float32 in the header
    assert np.abs(decoded - values).max() <= (high - low) / 510 + rounding
    assert decoded.max() <= high + rounding


def test_codes_are_written_as_they_are(tmp_path):
    codes = np.arange(256, dtype=np.uint8).reshape(1, 4, 8, 8)
    write_nifti(tmp_path / "p.nii.gz", codes, Geometry((4, 8, 8)), (0.0, 1.0))
    decoded = nib.load(tmp_path / "p.nii.gz").get_fdata()[..., 0]
    np.testing.assert_allclose(decoded, codes[0] / 255, atol=1e-6)
    assert decoded.max() <= 1.0


def test_equal_content_gives_equal_bytes(tmp_path):
    values = np.random.default_rng(0).random((4, 5, 6))
    for name in ("first.nii.gz", "second.nii.gz"):
        write_nifti(tmp_path / name, values, Geometry((4, 5, 6)))
    data = (tmp_path / "first.nii.gz").read_bytes()
    assert data == (tmp_path / "second.nii.gz").read_bytes()
    assert data[3:8] == bytes(5)  # no name, no time stamp


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_text_of_the_input_never_reaches_the_output(tmp_path, kind):
    image = kind(np.zeros((3, 4, 5), np.int16), np.eye(4))
    for name in ("descrip", "aux_file", "db_name", "intent_name", "data_type"):
        if name in image.header:
            image.header[name] = SECRET
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", SECRET * 4))
    nib.save(image, tmp_path / "in.nii")
    assert (tmp_path / "in.nii").read_bytes().count(SECRET) >= 7
    geometry = read_image(tmp_path / "in.nii").geometry
    write_nifti(tmp_path / "out.nii", np.zeros((3, 4, 5), np.uint8), geometry)
    write_nifti(tmp_path / "map.nii.gz", np.zeros((2, 3, 4, 5)), geometry, (0, 1))
    for data in (
        (tmp_path / "out.nii").read_bytes(),
        gzip.decompress((tmp_path / "map.nii.gz").read_bytes()),
    ):
        assert b"DOE" not in data
        assert b"JANE" not in data


def test_a_read_volume_does_not_follow_its_file(tmp_path):
    save_nifti(tmp_path / "in.nii", np.full((3, 4, 5), 7, np.int16), np.eye(4))
    image = read_image(tmp_path / "in.nii")
    save_nifti(tmp_path / "in.nii", np.full((3, 4, 5), 9, np.int16), np.eye(4))
    assert (image.array == 7).all()


@pytest.mark.parametrize(
    ("given_type", "stored"),
    [
        (bool, "uint8"),
        (np.int64, "int32"),
        (np.uint16, "uint16"),
        (np.float16, "float32"),
        (np.float64, "float32"),
    ],
)
def test_stored_types(tmp_path, given_type, stored):
    write_nifti(tmp_path / "x.nii", np.ones((2, 3, 4), given_type), Geometry((2, 3, 4)))
    assert nib.load(tmp_path / "x.nii").get_data_dtype() == np.dtype(stored)


def test_writing_refuses_what_it_cannot_keep(tmp_path):
    with pytest.raises(GeometryError, match=r"shape \(2, 3, 5\), expected a grid of \(2, 3, 4\)"):
        write_nifti(tmp_path / "x.nii", np.zeros((2, 3, 5)), Geometry((2, 3, 4)))
    with pytest.raises(InputError, match="32-bit"):
        write_nifti(tmp_path / "x.nii", np.full((2, 3, 4), 1 << 40), Geometry((2, 3, 4)))
    with pytest.raises(InputError, match="1 of 24 voxels are NaN"):
        write_nifti(
            tmp_path / "x.nii",
            np.where(np.arange(24).reshape(2, 3, 4), 0.0, np.nan),
            Geometry((2, 3, 4)),
            (0, 1),
        )
    assert not list(tmp_path.iterdir())


# ---- channels and labels


def test_channels_from_several_files(tmp_path):
    for number in range(3):
        save_nifti(
            tmp_path / f"c{number}.nii.gz", np.full((3, 4, 5), number, np.int16), np.diag([1, 1, 2, 1.0])
        )
    image = read_image([tmp_path / f"c{n}.nii.gz" for n in range(3)], name="case")
    assert image.name == "case"
    np.testing.assert_array_equal(image.array[:, 0, 0, 0], [0, 1, 2])
    save_nifti(tmp_path / "c2.nii.gz", np.zeros((3, 4, 5), np.int16), np.diag([1, 1, 3, 1.0]))
    with pytest.raises(InputError, match=r"c2.nii.gz lies on another grid"):
        read_image([tmp_path / f"c{n}.nii.gz" for n in range(3)], name="case")


def test_labels_may_be_whole_floats_only(tmp_path):
    save_nifti(tmp_path / "whole.nii", np.array([0, 1, 2, 1], np.float64).reshape(2, 2, 1), np.eye(4))
    read = read_label(tmp_path / "whole.nii")
    assert read.array.dtype == np.int32
    np.testing.assert_array_equal(read.array.ravel(), [0, 1, 2, 1])
    save_nifti(tmp_path / "soft.nii", np.array([0, 0.5, 2, 1], np.float32).reshape(2, 2, 1), np.eye(4))
    with pytest.raises(InputError, match="not whole numbers"):
        read_label(tmp_path / "soft.nii")
    save_nifti(tmp_path / "huge.nii", np.array([0, 1, 2, 2**33], np.float64).reshape(2, 2, 1), np.eye(4))
    with pytest.raises(InputError, match="32-bit"):
        read_label(tmp_path / "huge.nii")


def test_a_label_of_several_channels_must_be_grey(tmp_path):
    grey = np.random.default_rng(0).integers(0, 3, (6, 7)).astype(np.uint8)
    PillowImage.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_label(tmp_path / "grey.png").array, grey)
    PillowImage.fromarray(np.stack([grey, grey, grey + 1], -1)).save(tmp_path / "colour.png")
    with pytest.raises(InputError, match="3 different channels"):
        read_label(tmp_path / "colour.png")


# ---- pictures

GREY = np.arange(42, dtype=np.uint8).reshape(6, 7) * 6
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], -1)


def test_grey_and_colour_pictures(tmp_path):
    PillowImage.fromarray(GREY).save(tmp_path / "grey.png")
    PillowImage.fromarray(COLOUR).save(tmp_path / "colour.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").array, GREY[None])
    image = read_image(tmp_path / "colour.bmp")
    np.testing.assert_array_equal(image.array, np.moveaxis(COLOUR, -1, 0))
    assert image.geometry.shape == (6, 7)
    assert image.geometry.dims == 2


def test_sixteen_bits_are_kept(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    PillowImage.fromarray(deep).save(tmp_path / "deep.png")
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    for name in ("deep.png", "deep.tif"):
        image = read_image(tmp_path / name)
        assert image.array.dtype == np.uint16
        np.testing.assert_array_equal(image.array[0], deep)


def test_transparency_is_dropped(tmp_path):
    PillowImage.fromarray(np.dstack([COLOUR, GREY])).save(tmp_path / "rgba.png")
    PillowImage.fromarray(np.dstack([GREY, 255 - GREY]), "LA").save(tmp_path / "la.png")
    tifffile.imwrite(
        tmp_path / "rgba.tif", np.dstack([COLOUR, GREY]), photometric="rgb", extrasamples=["unassalpha"]
    )
    tifffile.imwrite(
        tmp_path / "la.tif", np.dstack([GREY, GREY]), photometric="minisblack", planarconfig="contig",
        extrasamples=["unassalpha"],
    )  # fmt: skip
    for name in ("rgba.png", "rgba.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, np.moveaxis(COLOUR, -1, 0))
    for name in ("la.png", "la.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, GREY[None])


def test_channels_that_are_not_transparency_are_kept(tmp_path):
    four = np.dstack([COLOUR, GREY])
    tifffile.imwrite(
        tmp_path / "four.tif",
        four,
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unspecified"] * 3,
    )
    np.testing.assert_array_equal(read_image(tmp_path / "four.tif").array, np.moveaxis(four, -1, 0))
    planar = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    tifffile.imwrite(tmp_path / "planar.tif", planar, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_image(tmp_path / "planar.tif").array, planar)


def test_a_palette_is_colours_in_an_image_and_classes_in_a_label(tmp_path):
    classes = (GREY // 6 % 3).astype(np.uint8)
    picture = PillowImage.fromarray(classes, "P")
    picture.putpalette([0, 0, 0, 200, 10, 20, 30, 220, 40] + [0] * (768 - 9))
    picture.save(tmp_path / "palette.png")
    colours = np.array([[0, 0, 0], [200, 10, 20], [30, 220, 40]], np.uint8)
    np.testing.assert_array_equal(
        read_image(tmp_path / "palette.png").array, np.moveaxis(colours[classes], -1, 0)
    )
    np.testing.assert_array_equal(read_label(tmp_path / "palette.png").array, classes)
    table = np.zeros((3, 256), np.uint16)
    table[:, :3] = colours.T.astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "palette.tif", classes, photometric="palette", colormap=table)
    expected = np.moveaxis(colours[classes].astype(np.uint16) * 257, -1, 0)
    np.testing.assert_array_equal(read_image(tmp_path / "palette.tif").array, expected)
    np.testing.assert_array_equal(read_label(tmp_path / "palette.tif").array, classes)


def test_one_bit_pictures(tmp_path):
    mask = GREY > 100
    PillowImage.fromarray(mask).save(tmp_path / "bit.png")
    tifffile.imwrite(tmp_path / "bit.tif", mask)
    for name in ("bit.png", "bit.tif"):
        np.testing.assert_array_equal(read_image(tmp_path / name).array, mask[None] * 255)
        np.testing.assert_array_equal(read_label(tmp_path / name).array, mask)


def test_print_colours_become_screen_colours(tmp_path):
    PillowImage.fromarray(COLOUR).convert("CMYK").save(tmp_path / "print.tif", compression=None)
    PillowImage.fromarray(COLOUR).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    assert read_image(tmp_path / "print.jpg").array.shape == (3, 6, 7)


def test_compression_that_tifffile_lacks_is_left_to_pillow(tmp_path, monkeypatch):
    PillowImage.fromarray(GREY).save(tmp_path / "lzw.tif", compression="tiff_lzw")

    def asarray(page, **arguments):
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", asarray)
    np.testing.assert_array_equal(read_image(tmp_path / "lzw.tif").array, GREY[None])


def test_pages_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 6, 7), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"stack.tif: 5 pages, expected one"):
        read_image(tmp_path / "stack.tif")


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.imaging.picture.MAXIMUM_PIXELS", 40)
    PillowImage.fromarray(GREY).save(tmp_path / "big.png")
    tifffile.imwrite(tmp_path / "big.tif", GREY)
    for name in ("big.png", "big.tif"):
        with pytest.raises(InputError, match="7 x 6 pixels, expected at most 40"):
            read_image(tmp_path / name)


def test_a_decompression_bomb_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 10)
    PillowImage.fromarray(GREY).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="DecompressionBombError"):
        read_image(tmp_path / "bomb.png")
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 30)  # Pillow would only warn
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "bomb.png").array.shape == (1, 6, 7)


@pytest.mark.parametrize("highest", [3, 255, 256, 65535])
def test_label_pictures_keep_their_values(tmp_path, highest):
    labels = np.array([[0, 1, highest], [highest, 2, 0]], np.int64)
    write_label_picture(tmp_path / "label.png", labels)
    np.testing.assert_array_equal(read_label(tmp_path / "label.png").array, labels)


@pytest.mark.parametrize("value", [-1, 65536])
def test_label_pictures_refuse_what_a_png_cannot_hold(tmp_path, value):
    with pytest.raises(InputError, match=f"{value}"):
        write_label_picture(tmp_path / "label.png", np.full((2, 2), value))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_image_pictures_keep_every_pixel(tmp_path, kind, channels):
    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 7)).astype(kind)
    for suffix in {picture_suffix(image), ".tif"}:
        write_image_picture(tmp_path / f"image{suffix}", image)
        back = read_image(tmp_path / f"image{suffix}").array
        np.testing.assert_array_equal(back, image)
        assert back.dtype == kind
    if picture_suffix(image) == ".tif":
        with pytest.raises(InputError, match="in a PNG"):
            write_image_picture(tmp_path / "image.png", image)


def test_map_pictures_are_float32_pages(tmp_path):
    maps = np.random.default_rng(0).random((3, 6, 7))
    write_map_picture(tmp_path / "maps.tiff", maps)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "maps.tiff"), maps.astype(np.float32))
    write_map_picture(tmp_path / "again.tiff", maps)
    assert (tmp_path / "maps.tiff").read_bytes() == (tmp_path / "again.tiff").read_bytes()


def test_text_in_pictures_stays_behind(tmp_path):
    note = PngInfo()
    note.add_text("PatientName", SECRET.decode())
    PillowImage.fromarray(GREY).save(tmp_path / "in.png", pnginfo=note)
    assert SECRET in (tmp_path / "in.png").read_bytes()
    write_label_picture(tmp_path / "out.png", read_label(tmp_path / "in.png").array)
    assert SECRET not in (tmp_path / "out.png").read_bytes()


# ---- names and damage


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a.NII.GZ", ".nii.gz", "a"),
        ("a.b.nii", ".nii", "a.b"),
        ("a.nii.png", ".png", "a.nii"),
        ("a.gz", "", "a.gz"),
        ("a.tiff", ".tiff", "a"),
    ],
)
def test_names(name, suffix, stem):
    assert (suffix_of(name), stem_of(name)) == (suffix, stem)


def damaged_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        save_nifti(path / "a.nii", np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1, 2, 3, 1.0]))
        save_nifti(path / "a.nii.gz", np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.diag([1, 2, 3, 1.0]))
        PillowImage.fromarray(COLOUR).save(path / "a.png")
        PillowImage.fromarray(COLOUR).save(path / "a.jpg")
        PillowImage.fromarray(COLOUR).save(path / "a.bmp")
        tifffile.imwrite(path / "a.tif", COLOUR, photometric="rgb")
        return {p.name: p.read_bytes() for p in path.iterdir()}


WHOLE = damaged_files()


@given(
    name=st.sampled_from(sorted(WHOLE)),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
@settings(REPEATABLE, max_examples=250)
@pytest.mark.filterwarnings("ignore")  # decoders warn about damage as they like; what counts is how they end
def test_damaged_files_are_read_or_refused_in_one_sentence(name, cut, flips):
    data = bytearray(WHOLE[name])
    for place, value in flips:
        data[int(place * len(data))] = value
    if cut < 0.5:
        data = data[: int(2 * cut * len(data))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        message = ""
        try:
            assert np.isfinite(read_image(path).array).all()
        except SfumatoError as error:
            message = str(error)
        assert message == "" or message.startswith(("a:", f"{name}:"))
        assert "\n" not in message
        assert folder not in message
