"""From a file's image and label to what a network takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sfumato.datasets import Case, make_phantoms, open_dataset, write_phantoms
from sfumato.errors import InputError
from sfumato.imaging import Geometry, Image, LabelMap
from sfumato.pipeline.prepare import LUMINANCE, normalise, prepare_image, prepare_label
from sfumato.pipeline.samples import gather_samples, read_sample, slices_of
from sfumato.segmenters.spec import Preprocessing, SegmenterSpec

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
PLAIN = Preprocessing(normalisation="none")


def spec_of(dims=3, channels=1, classes=3, label_values=(), preprocessing=PLAIN) -> SegmenterSpec:
    names = ("background", *(f"class {n}" for n in range(1, classes)))
    return SegmenterSpec(
        "preset:test",
        dims,
        channels,
        names,
        (16,) * dims,
        label_values=label_values,
        preprocessing=preprocessing,
    )


def volume(shape=(4, 5, 6), channels=1, affine=None, seed=0, kind=np.int16) -> Image:
    values = np.random.default_rng(seed).integers(-100, 900, (channels, *shape)).astype(kind)
    return Image(values, Geometry(shape, np.eye(4) if affine is None else affine), "case")


def picture(channels=1, kind=np.uint8, seed=0) -> Image:
    values = np.random.default_rng(seed).integers(0, 256, (channels, 6, 7)).astype(kind)
    return Image(values, Geometry((6, 7)), "case")


# ---- channels and grids


def test_a_volume_for_a_3d_network_is_turned_to_ras():
    image = volume(affine=np.diag([-1.0, 1, 1, 1]))
    prepared = prepare_image(image, spec_of())
    np.testing.assert_array_equal(prepared.array, image.array[:, ::-1].astype(np.float32))
    assert prepared.array.dtype == np.float32
    assert prepared.array.flags.c_contiguous
    assert prepared.name == "case"


def test_a_volume_for_a_2d_network_has_its_slices_first():
    image = volume(affine=np.diag([1.0, 6, 1, 1]))
    prepared = prepare_image(image, spec_of(dims=2))
    np.testing.assert_array_equal(prepared.array, np.moveaxis(image.array, 2, 1).astype(np.float32))


def test_spacing_is_the_network_s():
    prepared = prepare_image(
        volume((8, 8, 8)), spec_of(preprocessing=Preprocessing("none", spacing=(2.0, 1.0, 4.0)))
    )
    assert prepared.array.shape == (1, 4, 8, 2)


def test_a_picture_for_a_3d_network_is_refused():
    with pytest.raises(InputError, match=r"case: a 2-D picture of \(6, 7\), expected a volume"):
        prepare_image(picture(), spec_of())


@pytest.mark.parametrize(("given_channels", "wanted"), [(2, 1), (1, 2), (4, 3)])
@pytest.mark.parametrize("image", [volume, picture])
def test_wrong_channel_counts_are_refused(image, given_channels, wanted):
    spec = spec_of(dims=3 if image is volume else 2, channels=wanted)
    with pytest.raises(InputError, match=f"case: {given_channels} channels, expected {wanted}"):
        prepare_image(image(channels=given_channels), spec)


def test_a_volume_is_never_turned_to_grey():
    with pytest.raises(InputError, match="3 channels, expected 1"):
        prepare_image(volume(channels=3), spec_of())


def test_pictures_become_grey_or_colour():
    colour, grey = picture(3), picture(1)
    as_grey = prepare_image(colour, spec_of(dims=2)).array
    np.testing.assert_allclose(as_grey[0], np.tensordot(LUMINANCE, colour.array, 1), rtol=1e-6)
    assert LUMINANCE.sum() == pytest.approx(1)
    as_colour = prepare_image(grey, spec_of(dims=2, channels=3)).array
    np.testing.assert_array_equal(as_colour, np.repeat(grey.array, 3, 0))


@pytest.mark.parametrize("channels", [2, 4])
def test_channels_that_fit_are_all_kept(channels):
    image = picture(channels)
    np.testing.assert_array_equal(prepare_image(image, spec_of(dims=2, channels=channels)).array, image.array)


# ---- normalisation


@given(array=hnp.arrays(np.float32, (2, 3, 4, 5), elements=st.floats(-1000, 1000, width=32)))
@REPEATABLE
def test_zscore_of_each_channel(array):
    result = normalise(array, Preprocessing("zscore", percentiles=None), together=False)
    assert result.dtype == np.float32
    for channel, values in zip(result, array.astype(np.float64), strict=True):
        assert abs(channel.mean(dtype=np.float64)) < 1e-4
        if values.std() > 1e-3:
            assert channel.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)


def test_zscore_of_a_picture_keeps_its_colours_apart():
    array = picture(3).array.astype(np.float32)
    result = normalise(array, Preprocessing("zscore", percentiles=None), together=True)
    np.testing.assert_allclose(result, (array - array.mean()) / array.std(), atol=1e-5)


def test_zscore_clips_at_percentiles_first():
    array = np.concatenate([np.linspace(0, 1, 999), [1e6]]).astype(np.float32).reshape(1, 10, 10, 10)
    result = normalise(array, Preprocessing("zscore", percentiles=(0.5, 99.5)), together=False)
    assert np.abs(result).max() < 2
    clipped = np.clip(array, *np.percentile(array, (0.5, 99.5)))
    np.testing.assert_allclose(result, (clipped - clipped.mean()) / clipped.std(), atol=1e-4)


def test_a_constant_image_becomes_zero():
    assert (normalise(np.full((1, 4, 4), 7.0, np.float32), Preprocessing(), together=True) == 0).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (None, None, [-7, 0, 3]),
        (-4.0, None, [-3, 0, 3]),
        (None, 5.0, [-7, 0, 1.5]),
        (-4.0, 5.0, [-3, 0, 1.5]),
    ],
)
def test_fixed_normalisation(low, high, expected):
    how = Preprocessing("fixed", low=low, high=high, mean=2.0, std=2.0)
    array = np.array([-12, 2, 8], np.float32).reshape(1, 3, 1)
    np.testing.assert_allclose(normalise(array, how, together=False).ravel(), expected)


@pytest.mark.parametrize(
    ("kind", "full"), [(np.uint8, 255), (np.uint16, 65535), (np.int16, 32767), (np.float32, 1)]
)
def test_unit_divides_by_the_type_s_maximum_not_the_image_s(kind, full):
    image = Image(np.full((1, 6, 7), 100, kind), Geometry((6, 7)), "dim")
    prepared = prepare_image(image, spec_of(dims=2, preprocessing=Preprocessing("unit")))
    np.testing.assert_allclose(prepared.array, 100 / full, rtol=1e-6)


# ---- labels


def label_of(array, affine=None) -> LabelMap:
    return LabelMap(
        np.asarray(array, np.int32),
        Geometry(np.shape(array), np.eye(4) if affine is None else affine),
        "case",
    )


@given(values=st.lists(st.integers(-5, 300), min_size=3, max_size=3, unique=True), seed=st.integers(0, 99))
@REPEATABLE
def test_label_values_become_class_numbers(values, seed):
    expected = np.random.default_rng(seed).integers(0, 3, (4, 5, 6))
    found = prepare_label(label_of(np.array(values)[expected]), volume(), spec_of(label_values=tuple(values)))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int16


def test_unknown_label_values_are_listed():
    array = np.zeros((4, 5, 6))
    array[0, 0, :4] = [1, 7, -1, 9]
    with pytest.raises(
        InputError, match=r"case: label values \[-1, 7, 9\] are not in the data set's list \[0, 1, 2\]"
    ):
        prepare_label(label_of(array), volume(), spec_of())


def test_instances_are_foreground():
    array = np.arange(120).reshape(4, 5, 6)
    np.testing.assert_array_equal(
        prepare_label(label_of(array), volume(), spec_of(classes=2), True), array > 0
    )


def test_a_label_on_another_grid_is_refused():
    with pytest.raises(InputError, match=r"label's grid is \(4, 5, 7\), expected the image's \(4, 5, 6\)"):
        prepare_label(label_of(np.zeros((4, 5, 7))), volume(), spec_of())
    mirrored = np.diag([-1.0, 1, 1, 1])
    with pytest.raises(InputError, match=r"case: the label lies up to 6.0 mm away from the image"):
        prepare_label(label_of(np.zeros((4, 5, 6)), mirrored), volume(), spec_of())
    near = np.eye(4)
    near[:3, 3] = 0.2
    assert prepare_label(label_of(np.zeros((4, 5, 6)), near), volume(), spec_of()).shape == (4, 5, 6)


# ---- samples


@pytest.fixture
def phantom_set(tmp_path):
    write_phantoms(tmp_path, make_phantoms(4, 3, 0, classes=3), np.diag([1.0, -1.0, 2.0, 1.0]))
    return open_dataset(tmp_path)


@pytest.mark.parametrize("dims", [2, 3])
def test_samples_lie_on_the_network_s_grid(phantom_set, dims):
    phantom = make_phantoms(1, 3, 0, classes=3)[0]
    sample = read_sample(phantom_set.cases["phantom_000"], spec_of(dims))
    image, label = phantom.image[:, :, ::-1], phantom.label[:, ::-1]
    if dims == 2:
        image, label = np.moveaxis(image, 3, 1), np.moveaxis(label, 2, 0)
    np.testing.assert_array_equal(sample.image, image)
    np.testing.assert_array_equal(sample.label, label)
    assert (sample.name, sample.patient) == ("phantom_000", "phantom_000")


def test_slices_are_samples_of_their_own(phantom_set):
    sample = read_sample(phantom_set.cases["phantom_000"], spec_of(2))
    slices = slices_of(sample)
    assert len(slices) == len(sample.label) == 20
    assert slices[3].name == "phantom_000/3"
    np.testing.assert_array_equal(slices[3].image, sample.image[:, 3])
    np.testing.assert_array_equal(slices[3].label, sample.label[3])
    assert {s.patient for s in slices} == {"phantom_000"}


def test_bad_cases_are_reported_and_the_others_go_on(phantom_set):
    cases = list(phantom_set.cases.values())
    cases[1].images[0].write_bytes(b"damaged")
    cases.append(Case("bare", "bare", cases[0].images))
    found = gather_samples(cases, spec_of())
    assert [s.name for s in found.samples] == ["phantom_000", "phantom_002", "phantom_003"]
    assert [p.split(":")[0] for p in found.problems] == ["phantom_001.nii.gz", "bare"]


def test_no_usable_case_is_an_error(phantom_set):
    with pytest.raises(
        InputError, match=r"None of 4 cases could be used. The first: phantom_000: 1 channels, expected 2"
    ):
        gather_samples(phantom_set.cases.values(), spec_of(channels=2))
    with pytest.raises(InputError, match="The split is empty"):
        gather_samples([], spec_of())
