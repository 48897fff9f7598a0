"""Data sets on disk, their splits, and phantoms whose noise and ambiguity are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.datasets import (
    SPLIT_NAMES,
    make_phantoms,
    make_splits,
    open_dataset,
    patient_of,
    read_splits,
    write_phantoms,
)
from sfumato.datasets.splits import out_of_fold
from sfumato.errors import ConfigError, DatasetError
from sfumato.imaging import read_image, read_label, same_grid

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=30)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


# ---- folders


def test_plain_folder(tmp_path):
    touch(
        tmp_path,
        "images/b.png",
        "images/a.nii.gz",
        "masks/a.nii.gz",
        "masks/b.png",
        "images/.hidden.png",
        "images/notes.txt",
    )
    dataset = open_dataset(tmp_path)
    assert list(dataset.cases) == ["a", "b"]
    assert dataset.cases["a"].images == (tmp_path / "images" / "a.nii.gz",)
    assert dataset.cases["b"].label == tmp_path / "masks" / "b.png"
    assert dataset.problems == ()
    assert dataset.label_values == {}


def test_missing_pairs_are_named_and_the_others_go_on(tmp_path):
    touch(tmp_path, "images/a.png", "images/b.png", "masks/b.png", "masks/c.png")
    dataset = open_dataset(tmp_path)
    assert list(dataset.cases) == ["b"]
    assert [p.split(":")[0] for p in dataset.problems] == ["a", "c"]
    assert "without a mask" in dataset.problems[0]
    assert "without an image" in dataset.problems[1]


def test_several_readers(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "masks_annotator2/a.png", "masks_annotator10/a.png")
    touch(tmp_path, "masks_annotator1/a.png", "masks_annotator1/b.png")
    dataset = open_dataset(tmp_path)
    assert dataset.cases["a"].label == tmp_path / "masks_annotator1" / "a.png"
    assert [p.parent.name for p in dataset.cases["a"].readers] == [f"masks_annotator{n}" for n in (1, 2, 10)]
    assert len(dataset.cases["b"].readers) == 1
    touch(tmp_path, "masks/a.png", "masks/b.png")
    assert open_dataset(tmp_path).cases["a"].label == tmp_path / "masks" / "a.png"


def test_masks_may_end_in_mask(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b_mask.jpg", "images/c.jpg", "images/d_1.jpg")
    touch(tmp_path, "masks/a_mask.png", "masks/b_mask.png", "masks/c_1stHO.png", "masks/d_1_2.png")
    dataset = open_dataset(tmp_path)
    assert list(dataset.cases) == ["a", "b_mask", "c"]
    assert dataset.cases["a"].label == tmp_path / "masks" / "a_mask.png"
    assert len(dataset.problems) == 2  # d_1 and d_1_2 may be two frames: not a pair
    touch(tmp_path, "masks/a-seg.png")
    with pytest.raises(DatasetError, match=r"a: two masks, a-seg.png and a_mask.png"):
        open_dataset(tmp_path)


def test_nnunet_folder(tmp_path):
    touch(tmp_path, *(f"imagesTr/case_{c}_000{n}.nii.gz" for c in ("a", "b", "c") for n in (0, 1)))
    touch(tmp_path, *(f"labelsTr/case_{c}.nii.gz" for c in ("a", "b", "d")), "labelsTr/case_e.nii.gz")
    (tmp_path / "imagesTr/case_b_0001.nii.gz").unlink()
    touch(tmp_path, "imagesTr/case_e_0000.nii.gz", "imagesTr/case_e_0001.nii.gz")
    dataset = open_dataset(tmp_path)
    assert list(dataset.cases) == ["case_a", "case_e"]
    assert [p.name for p in dataset.cases["case_a"].images] == ["case_a_0000.nii.gz", "case_a_0001.nii.gz"]
    found = {p.split(":")[0]: p for p in dataset.problems}
    assert set(found) == {"case_b", "case_c", "case_d"}
    assert "channels [0], expected 0 to 1" in found["case_b"]
    assert "without a label" in found["case_c"]
    assert "without an image" in found["case_d"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "there is no such folder"),
        (("other/a.png",), "not a data set we know"),
        (("images/notes.txt", "masks/a.png"), "no image in it; expected files ending in .nii.gz"),
        (("images/a.png",), "no image has a label of its name.*a: an image without a mask"),
        (("images/a.nii", "images/a.nii.gz", "masks/a.nii"), "a: two files, a.nii and a.nii.gz in .*images"),
        (("images/a.png", "masks/a.png", "masks/a.tif"), "a: two files, a.png and a.tif in .*masks"),
        (("imagesTr/a.nii.gz", "labelsTr/a.nii.gz"), "expected a channel number at the end, as in a_0000"),
        (
            ("imagesTr/a_0.nii.gz", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
            "a second file for channel 0",
        ),
        (("imagesTr/readme.md",), "no image in it"),
    ],
)
def test_broken_folders_are_one_sentence(tmp_path, files, message):
    touch(tmp_path, *(f"set/{name}" for name in files))
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path / "set")


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"background": 0, "liver": 1, "tumour": 2}, {0: "background", 1: "liver", 2: "tumour"}),
        ({"background": 0, "heart": 205, "ignore": 255}, {0: "background", 205: "heart"}),
        (
            {"0": "background", "1": "Anterior", "2": "Posterior"},
            {0: "background", 1: "Anterior", 2: "Posterior"},
        ),
        ({"background": 0, "whole": [1, 2], "core": 2}, {0: "background", 2: "core"}),
        ({}, {}),
    ],
)
def test_declared_labels(tmp_path, labels, expected):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "numTraining": 1}))
    found = open_dataset(tmp_path).label_values
    assert found == expected
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"labels": 3}', '{"labels": {"a": "b"}}', '{"labels": {"liver": 1}}', "\xff\xfe"]
)
def test_broken_descriptions_are_one_sentence(tmp_path, content):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "dataset.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        open_dataset(tmp_path)


# ---- patients


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("patient001_frame01", "patient001"),
        ("patient001_ED", "patient001"),
        ("sub-01_ses-02", "sub-01"),
        ("scan_7_slice-12", "scan_7"),
        ("p3_visit2_frame1", "p3"),
        ("hippocampus_001", "hippocampus_001"),
        ("00071198d059ba7f", "00071198d059ba7f"),
        ("frame", "frame"),
        ("Image_01L", "Image_01L"),
    ],
)
def test_patients_by_name(case, patient):
    assert patient_of(case) == patient


def test_a_pattern_of_ones_own(tmp_path):
    touch(
        tmp_path,
        *(f"{part}/Image_0{n}{side}.png" for part in ("images", "masks") for n in "123" for side in "LR"),
    )
    dataset = open_dataset(tmp_path, r"(.*)[LR]$")
    assert {c.patient for c in dataset.cases.values()} == {"Image_01", "Image_02", "Image_03"}
    with pytest.raises(ConfigError, match="not a regular expression"):
        open_dataset(tmp_path, "(")
    with pytest.raises(ConfigError, match="expected a group"):
        open_dataset(tmp_path, "Image")


# ---- splits


def test_sorted_cases_modulo_five():
    names = [f"hippocampus_{n:03d}" for n in (17, 1, 4, 3, 6, 7, 9, 11, 14, 15, 8, 23)]
    splits = make_splits({n: patient_of(n) for n in names})
    order = sorted(names)
    assert list(splits.test) == order[0::5]
    assert list(splits.calibration) == order[1::5]
    assert list(splits.train) == [n for i, n in enumerate(order) if i % 5 > 1]


patients = st.dictionaries(
    st.text("abcdef0123", min_size=1, max_size=6), st.sampled_from("PQRSTUVWXYZ"), min_size=1, max_size=40
)


@given(patients=patients, seed=st.one_of(st.none(), st.integers(0, 1000)))
@REPEATABLE
def test_splits_are_complete_reproducible_and_by_patient(patients, seed):
    if len(set(patients.values())) < 3:
        with pytest.raises(DatasetError, match="at least 3"):
            make_splits(patients, seed)
        return
    splits = make_splits(patients, seed)
    assert splits == make_splits(dict(reversed(patients.items())), seed)
    together = [case for name in SPLIT_NAMES for case in splits[name]]
    assert sorted(together) == sorted(patients)
    owners = [{patients[c] for c in splits[name]} for name in SPLIT_NAMES]
    assert all(owners)
    assert sum(map(len, owners)) == len(set(patients.values()))


def test_a_seed_shuffles():
    names = {f"case{n:02d}": f"case{n:02d}" for n in range(50)}
    assert make_splits(names, 1) != make_splits(names, 2)
    assert make_splits(names, 1) != make_splits(names)


def test_splits_of_a_file_and_of_the_folder(tmp_path):
    touch(tmp_path, *(f"{part}/{n}.png" for part in ("images", "masks") for n in "abcdef"))
    dataset = open_dataset(tmp_path)
    assert dataset.splits() == make_splits({n: n for n in "abcdef"})
    assert dataset.splits(seed=3) == make_splits({n: n for n in "abcdef"}, 3)
    beside = {"train": ["a", "b"], "calibration": ["c"], "test": ["d"]}
    (tmp_path / "splits.json").write_text(json.dumps(beside))
    assert dataset.splits().to_json() == beside
    other = {"train": ["f"], "calibration": ["e"], "test": []}
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert dataset.splits(tmp_path / "other.json").to_json() == other
    assert dataset.splits()["calibration"] == ("c",)
    with pytest.raises(DatasetError, match="no split called 'validation'"):
        dataset.splits()["validation"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a readable splits file"),
        ("[{}]", "expected an object with the lists train, calibration, test"),
        ('{"train": [], "test": []}', "expected an object with the lists"),
        (
            '{"train": ["p1_t1", "nobody"], "calibration": [], "test": []}',
            "1 cases are not in .* the first is 'nobody'",
        ),
        (
            '{"train": ["p1_t1"], "calibration": ["p1_t2"], "test": []}',
            "patient 'p1' is in both train and calibration",
        ),
        (
            '{"train": ["p1_t1"], "calibration": [], "test": ["p1_t1"]}',
            "patient 'p1' is in both train and test",
        ),
        ('{"train": ["p2_t1", "p2_t1"], "calibration": [], "test": []}', "'p2_t1' is named twice in train"),
    ],
)
def test_broken_splits_are_one_sentence(tmp_path, content, message):
    (tmp_path / "splits.json").write_text(content)
    owners = {name: patient_of(name) for name in ("p1_t1", "p1_t2", "p2_t1")}
    with pytest.raises(DatasetError, match=message):
        read_splits(tmp_path / "splits.json", owners, owners)


def test_a_missing_splits_file_is_one_sentence(tmp_path):
    with pytest.raises(DatasetError, match="not a readable splits file"):
        read_splits(tmp_path / "splits.json", [], {})


@given(
    owners=st.lists(st.sampled_from("ABCDEFGHIJK"), min_size=1, max_size=60),
    folds=st.integers(2, 6),
    seed=st.integers(0, 9),
)
@REPEATABLE
def test_folds_keep_patients_together_and_even(owners, folds, seed):
    fold = out_of_fold(owners, folds, seed)
    by_patient = {}
    for patient, number in zip(owners, fold, strict=True):
        assert by_patient.setdefault(patient, number) == number
    counts = np.bincount(list(by_patient.values()), minlength=folds)
    assert counts.max() - counts.min() <= 1


# ---- phantoms


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("classes", [2, 3])
def test_phantoms_are_samples(spatial_dims, classes):
    for phantom in make_phantoms(20, spatial_dims, seed=1, classes=classes, channels=2):
        assert phantom.image.shape == (2, *phantom.label.shape)
        assert phantom.image.dtype == np.float32
        assert phantom.label.ndim == spatial_dims
        assert np.unique(phantom.label).tolist() == list(range(classes))
        np.testing.assert_allclose(phantom.probability.sum(0), 1, atol=1e-5)
        certain = phantom.probability.max(0) > 1 - 1e-6
        np.testing.assert_array_equal(phantom.label[certain], phantom.probability.argmax(0)[certain])
        assert 0 < (~certain).mean() < 0.6


def test_phantoms_depend_on_the_seed_and_their_number_only():
    few, many, other = make_phantoms(2, 2, 5), make_phantoms(4, 2, 5), make_phantoms(2, 2, 6)
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.label, b.label)
    assert not np.array_equal(few[0].image, few[1].image)
    assert not np.array_equal(few[0].image, other[0].image)


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_the_noise_is_what_was_asked_for(noise):
    phantoms = make_phantoms(40, 2, 0, classes=3, noise=noise)
    residue = np.concatenate(
        [(p.image[0] - np.tensordot(np.arange(3.0), p.probability, 1)).ravel() for p in phantoms]
    )
    # 30720 values: the sample's standard deviation is within 1/sqrt(2 n) = 0.4 % of the true one, most of the time.
    assert residue.std() == pytest.approx(noise, rel=0.02, abs=1e-6)
    assert abs(residue.mean()) < 0.02


def test_readers_are_as_unsure_as_the_phantom_says():
    """Among voxels of stated probability p, a share p is labelled: over many phantoms the statement is calibrated."""
    phantoms = make_phantoms(600, 2, seed=3, edge=2.0)
    stated = np.concatenate([p.probability[1].ravel() for p in phantoms])
    drawn = np.concatenate([p.label.ravel() for p in phantoms])
    for low in np.arange(0, 1, 0.2):
        inside = (stated > low) & (stated <= low + 0.2) & (stated > 0) & (stated < 1)
        assert inside.sum() > 5000
        # One shift moves a whole edge, so phantoms count, not voxels: 0.5 / sqrt(600) = 0.02 at one sigma.
        assert drawn[inside].mean() == pytest.approx(stated[inside].mean(), abs=0.06)


def test_certain_edges_leave_no_doubt():
    phantom = make_phantoms(1, 3, 0, edge=0.0, noise=0.0)[0]
    np.testing.assert_array_equal(phantom.probability[1], phantom.label)
    np.testing.assert_array_equal(phantom.image[0], phantom.label)


@pytest.mark.parametrize(
    "wrong",
    [
        {"grid": (8, 8)},
        {"grid": (12, 12, 12)},
        {"edge": 3.0},
        {"classes": 1},
        {"noise": -1.0},
        {"spatial_dims": 4},
    ],
)
def test_impossible_phantoms_are_one_sentence(wrong):
    with pytest.raises(ConfigError, match="phantoms of grid"):
        make_phantoms(**{"count": 1, "spatial_dims": 2, "seed": 0, **wrong})


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_phantoms_on_disk(tmp_path, spatial_dims):
    phantoms = make_phantoms(3, spatial_dims, 0, classes=3)
    affine = np.diag([-1.0, 1, 2, 1])
    write_phantoms(tmp_path, phantoms, affine)
    dataset = open_dataset(tmp_path)
    assert dataset.label_values == {0: "background", 1: "blob 1", 2: "blob 2"}
    for phantom in phantoms:
        case = dataset.cases[phantom.name]
        image, label = read_image(case.images), read_label(case.label)
        np.testing.assert_array_equal(label.array, phantom.label)
        assert same_grid(image.geometry, label.geometry)
        if spatial_dims == 3:
            np.testing.assert_array_equal(image.array, phantom.image)
            np.testing.assert_array_equal(image.geometry.affine, affine)
        else:
            grey = (image.array.astype(float) - 60) / 40
            assert np.abs(grey - phantom.image).max() <= 0.5 / 40 + 1e-6


def test_pictures_take_one_channel(tmp_path):
    with pytest.raises(ConfigError, match="2 channels, expected one"):
        write_phantoms(tmp_path, make_phantoms(1, 2, 0, channels=2))


# ---- the labelled data sets


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "count", "train", "calibration", "test"),
    [("hippocampus_msd", 260, 156, 52, 52), ("dsb2018", 445, 267, 89, 89)],
)
def test_real_sets_split_modulo_five(data_folder, name, count, train, calibration, test):
    dataset = open_dataset(data_folder / name)
    assert (len(dataset.cases), dataset.problems) == (count, ())
    splits = dataset.splits()
    assert list(splits.test) == sorted(dataset.cases)[0::5]
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (train, calibration, test)


@pytest.mark.needs_data
def test_acdc_is_split_by_patient(data_folder):
    dataset = open_dataset(data_folder / "acdc")
    assert len(dataset.cases) == 140
    assert len({c.patient for c in dataset.cases.values()}) == 70
    written = Path(__file__).parents[1] / "recipes" / "acdc" / "splits.json"
    splits = dataset.splits(written)
    assert (len(splits.train), len(splits.calibration), len(splits.test)) == (100, 20, 20)


@pytest.mark.needs_data
def test_two_readers_of_vessels(data_folder):
    dataset = open_dataset(data_folder / "chasedb1", r"(.*)[LR]$")
    assert len(dataset.cases) == 28
    assert len({c.patient for c in dataset.cases.values()}) == 14
    assert all(len(c.readers) == 2 for c in dataset.cases.values())
    assert np.unique(read_label(dataset.cases["Image_01L"].label).array).size == 2
