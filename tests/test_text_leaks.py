"""Shared patients, look-alike images and repeated sentences, against loops over all pairs."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import uniform_filter
from scipy.stats import pearsonr

from sfumato.datasets import SPLIT_NAMES, Splits, find_leaks, make_phantoms, read_text_table, write_phantoms
from sfumato.datasets.text_leaks import SIDE, small_image
from sfumato.errors import ConfigError, UnknownNameError
from sfumato.imaging import read_image

SPLITS = Splits(("a_1", "a_2", "b_1"), ("c_1",), ("a_3", "d_1", "e_1"))
TEXTS = {
    "a_1": "One polyp.",
    "a_2": "two polyps",
    "b_1": "unknown",
    "c_1": "two polyps",
    "a_3": "one  polyp",
    "d_1": "a lump",
    "e_1": "unknown",
}


def scene(seed):
    """A smooth picture, (48, 56) of 0 to 255."""
    noise = uniform_filter(np.random.default_rng(seed).normal(size=(48, 56)), 9)
    return (255 * (noise - noise.min()) / np.ptp(noise)).astype(np.uint8)


@pytest.fixture
def table(tmp_path):
    """`d_1` is `b_1` darker and cropped by a pixel, `a_3` is `a_1`; the others are scenes of their own."""
    scenes = {name: scene(seed) for seed, name in enumerate(TEXTS)}
    scenes["a_3"] = scenes["a_1"]
    scenes["d_1"] = (scenes["b_1"][1:, :-1] * 0.7).astype(np.uint8)
    for name, picture in scenes.items():
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / part / f"{name}.png")
    rows = [f"{name},{text},{name[0]}" for name, text in TEXTS.items()]
    (tmp_path / "texts.csv").write_text("\n".join(["image,text,patient", *rows]))
    return read_text_table(tmp_path)


def test_what_was_planted_is_found_and_nothing_else(table):
    report = find_leaks(table, SPLITS)
    assert report.patients == {"a": ("train", "test")}
    assert report.sentences == {"one polyp": ("a_1", "a_3"), "two polyps": ("a_2", "c_1")}
    assert report.repeated == 1 / 2  # of the two test cases with text
    assert [(pair.first, pair.second) for pair in report.images] == [("a_1", "a_3"), ("b_1", "d_1")]
    assert report.images[0].correlation == pytest.approx(1.0)
    said = " ".join(report.warnings())
    assert "1 patients" in said
    assert "2 pairs of images" in said
    assert "50% of the test cases" in said


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_compared(table):
    table.cases["a_3"].case.images[0].write_bytes(b"no picture")
    report = find_leaks(table, SPLITS)
    assert report.unread == ("a_3",)
    assert [(pair.first, pair.second) for pair in report.images] == [("b_1", "d_1")]
    assert any("1 images cannot be read" in line and "'a_3'" in line for line in report.warnings())


def test_nothing_shared_gives_no_warning(table):
    report = find_leaks(table, Splits(("a_1", "a_2", "a_3"), ("e_1",), ("d_1",)))
    assert (report.patients, report.images, report.sentences, report.repeated) == ({}, (), {}, 0.0)
    assert report.warnings() == ()


@pytest.mark.parametrize("similar", [0.05, 0.3, 0.9])
def test_pairs_equal_a_loop_over_all_of_them(table, similar):
    vectors = {n: small_image(read_image(c.case.images).array) for n, c in table.cases.items()}
    expected = {
        (first, second)
        for one, other in combinations(SPLIT_NAMES, 2)
        for first, second in product(SPLITS[one], SPLITS[other])
        if pearsonr(vectors[first], vectors[second])[0] >= similar
    }
    pairs = find_leaks(table, SPLITS, similar=similar).images
    assert {(pair.first, pair.second) for pair in pairs} == expected
    correlations = [pair.correlation for pair in pairs]
    assert correlations == sorted(correlations, reverse=True)


@pytest.mark.parametrize("shape", [(2, 48, 56), (1, 17, 100), (1, 5, 16), (1, 20, 18, 7)])
def test_a_small_image_holds_the_means_of_blocks(shape):
    array = np.random.default_rng(0).normal(size=shape)
    grey, grid = array.mean(axis=0), shape[1:]
    blocks = np.zeros((SIDE,) * len(grid))
    for place in np.ndindex(*blocks.shape):
        starts = [i * n // SIDE for i, n in zip(place, grid, strict=True)]
        ends = [max((i + 1) * n // SIDE, start + 1) for i, n, start in zip(place, grid, starts, strict=True)]
        blocks[place] = grey[tuple(slice(s, e) for s, e in zip(starts, ends, strict=True))].mean()
    expected = (blocks - blocks.mean()).ravel()
    np.testing.assert_allclose(small_image(array), expected / np.linalg.norm(expected), atol=1e-12)


def test_a_small_image_ignores_brightness_and_contrast_and_a_constant_one_resembles_none():
    array = np.random.default_rng(1).normal(size=(1, 40, 40))
    np.testing.assert_allclose(small_image(3 * array + 7), small_image(array), atol=1e-12)
    assert not small_image(np.full((3, 20, 20), 0.1)).any()


def test_pictures_and_volumes_are_not_compared(tmp_path):
    for dims, folder in ((2, "flat"), (3, "deep")):
        write_phantoms(tmp_path / folder, make_phantoms(1, spatial_dims=dims, seed=0))
    rows = [
        "flat,flat/images/phantom_000.png,flat/masks/phantom_000.png,x",
        "deep,deep/images/phantom_000.nii.gz,deep/masks/phantom_000.nii.gz,y",
    ]
    (tmp_path / "all.csv").write_text("\n".join(["patient,image,mask,text", *rows]))
    table = read_text_table(tmp_path / "all.csv")
    names = tuple(table.cases)
    assert find_leaks(table, Splits(names[:1], (), names[1:]), similar=1e-9).images == ()


def test_wrong_arguments(table):
    with pytest.raises(ConfigError, match="similar=0"):
        find_leaks(table, SPLITS, similar=0)
    with pytest.raises(UnknownNameError, match="level of detail"):
        find_leaks(table, SPLITS, level="p6")
    with pytest.raises(UnknownNameError, match="case called 'z'"):
        find_leaks(table, Splits(("z",), (), ()))
