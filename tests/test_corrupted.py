"""Corrupted copies: exact shares, the truth beside them, and every other byte as it was."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato.datasets import make_phantoms, open_dataset, write_phantoms
from sfumato.datasets.corrupted import (
    PLAN_FILE,
    Corruption,
    plan_corruption,
    read_corruption,
    write_corrupted,
)
from sfumato.datasets.corruption import CORRUPTIONS, corrupt_image
from sfumato.datasets.label_corruption import LABEL_CORRUPTIONS, corrupt_label
from sfumato.errors import ConfigError, InputError, StorageError, UnknownNameError
from sfumato.imaging import (
    Geometry,
    read_image,
    read_label,
    write_image_picture,
    write_label_picture,
    write_nifti,
)

KINDS = [*CORRUPTIONS, *LABEL_CORRUPTIONS]
NAMES = [f"case{number}" for number in range(60)]


@pytest.fixture(scope="module", params=[2, 3])
def dataset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    write_phantoms(folder, make_phantoms(6, request.param, 0, classes=3))
    return open_dataset(folder)


def bytes_of(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_counts_are_exact_and_smaller_shares_lie_within_larger_ones():
    plans = [plan_corruption(NAMES, KINDS, share) for share in (0, 0.025, "0.05", 0.1, 0.5, 1)]
    # Half a case counts as one: 60 * 0.025 = 1.5.
    assert [len(plan) for plan in plans] == [0, 2, 3, 6, 30, 60]
    for smaller, larger in itertools.pairwise(plans):
        assert smaller.items() <= larger.items()


def test_order_and_repetition_of_the_names_do_not_matter_but_the_seed_does():
    plan = plan_corruption(NAMES, KINDS, 0.2)
    assert plan == plan_corruption([*reversed(NAMES), "case3"], KINDS, 0.2)
    assert set(plan) != set(plan_corruption(NAMES, KINDS, 0.2, seed=1))


def test_kinds_and_severities_take_turns():
    plan = plan_corruption(NAMES, ["noise", "swap"], 1.0, severities=(1, 3))
    numbers = {change: list(plan.values()).count(change) for change in plan.values()}
    assert set(numbers.values()) == {15}
    assert {change.target for change in numbers if change.name == "swap"} == {"label"}
    assert {change.target for change in numbers if change.name == "noise"} == {"image"}


def test_only_what_the_plan_names_has_changed(dataset, tmp_path):
    cases = list(dataset.cases)
    plan = {cases[0]: Corruption("image", "blur", 3), cases[1]: Corruption("label", "swap", 2)}
    write_corrupted(dataset, tmp_path, plan, seed=5)
    copy = open_dataset(tmp_path)
    assert list(copy.cases) == cases
    assert copy.label_values == dataset.label_values
    assert read_corruption(tmp_path) == plan
    for name in cases:
        before, after = dataset.cases[name], copy.cases[name]
        if name != cases[0]:
            assert after.images[0].read_bytes() == before.images[0].read_bytes()
        if name != cases[1]:
            assert after.label.read_bytes() == before.label.read_bytes()
    image = corrupt_image(read_image(dataset.cases[cases[0]].images, cases[0]), "blur", 3, 5)
    np.testing.assert_array_equal(read_image(copy.cases[cases[0]].images).array, image.array)
    label = corrupt_label(read_label(dataset.cases[cases[1]].label, cases[1]), "swap", 2, 5)
    np.testing.assert_array_equal(read_label(copy.cases[cases[1]].label).array, label.array)
    geometry = read_label(copy.cases[cases[1]].label).geometry
    np.testing.assert_array_equal(geometry.affine, label.geometry.affine)


def test_an_interrupted_copy_goes_on(dataset, tmp_path, monkeypatch):
    plan = plan_corruption(dataset.cases, ["noise", "erosion"], 0.5)
    write_corrupted(dataset, tmp_path / "whole", plan)
    copies, copy = [], shutil.copyfile

    def fail_late(source, target):
        copies.append(source)
        if len(copies) == 5:
            target.write_bytes(b"half")
            raise OSError("the disc is full")
        return copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", fail_late)
    with pytest.raises(OSError, match="disc is full"):
        write_corrupted(dataset, tmp_path / "cut", plan)
    done = len(copies) - 1
    write_corrupted(dataset, tmp_path / "cut", plan)
    assert bytes_of(tmp_path / "cut") == bytes_of(tmp_path / "whole")
    # Nothing but dataset.json is copied twice.
    assert len(copies) == len(set(copies)) + 2
    assert done == 4
    with pytest.raises(StorageError, match="another plan"):
        write_corrupted(dataset, tmp_path / "cut", plan, seed=1)


def test_channels_and_readers_keep_their_files(tmp_path):
    phantoms = make_phantoms(2, 3, 0, channels=2)
    raw, read = tmp_path / "raw", tmp_path / "read"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for folder in ("images", "masks_annotator1", "masks_annotator2"):
        (read / folder).mkdir(parents=True)
    for phantom in phantoms:
        geometry = Geometry(phantom.label.shape)
        for number, channel in enumerate(phantom.image):
            write_nifti(raw / "imagesTr" / f"{phantom.name}_{number:04d}.nii.gz", channel, geometry)
        write_nifti(raw / "labelsTr" / f"{phantom.name}.nii.gz", phantom.label, geometry)
        colour = np.stack([np.uint8(60 + 40 * phantom.label[6])] * 3)
        write_image_picture(read / "images" / f"{phantom.name}.png", colour)
        for number in (1, 2):
            place = read / f"masks_annotator{number}" / f"{phantom.name}.png"
            write_label_picture(place, phantom.label[6])
    one, other = phantoms[0].name, phantoms[1].name
    plan = {one: Corruption("image", "noise", 1), other: Corruption("label", "shift", 2)}
    for folder in (raw, read):
        write_corrupted(open_dataset(folder), folder.with_name(f"{folder.name}_wrong"), plan)
        before, after = bytes_of(folder), bytes_of(folder.with_name(f"{folder.name}_wrong"))
        assert set(after) - set(before) == {p for p in after if p.name == PLAN_FILE}
        changed = sorted(str(path) for path in before if after[path] != before[path])
        expected = {
            raw: [
                f"imagesTr/{one}_0000.nii.gz",
                f"imagesTr/{one}_0001.nii.gz",
                f"labelsTr/{other}.nii.gz",
            ],
            read: [f"images/{one}.png", f"masks_annotator1/{other}.png"],
        }
        assert changed == expected[folder]


def test_a_jpeg_is_changed_into_a_png(tmp_path):
    folder = tmp_path / "clean"
    write_phantoms(folder, make_phantoms(2, 2, 0))
    for path in list((folder / "images").iterdir()):
        with PillowImage.open(path) as picture:
            picture.save(path.with_suffix(".jpg"), quality=90)
        path.unlink()
    dataset = open_dataset(folder)
    name = next(iter(dataset.cases))
    for _ in range(2):
        write_corrupted(dataset, tmp_path / "wrong", {name: Corruption("image", "crop", 1)})
    copy = open_dataset(tmp_path / "wrong")
    assert sorted(case.images[0].suffix for case in copy.cases.values()) == [".jpg", ".png"]


def test_what_cannot_be_done_is_said(dataset, tmp_path):
    with pytest.raises(ConfigError, match=r"prevalence 1\.5"):
        plan_corruption(NAMES, KINDS, 1.5)
    with pytest.raises(ConfigError, match="expected one or more"):
        plan_corruption(NAMES, [], 0.5)
    with pytest.raises(ConfigError, match="from 1 to 3"):
        plan_corruption(NAMES, KINDS, 0.5, severities=(4,))
    with pytest.raises(UnknownNameError, match="noisy"):
        plan_corruption(NAMES, ["noisy"], 0.5)
    with pytest.raises(UnknownNameError, match="nobody"):
        write_corrupted(dataset, tmp_path / "new", {"nobody": Corruption("image", "noise", 1)})
    assert not (tmp_path / "new").exists()
    with pytest.raises(StorageError, match="not empty"):
        write_corrupted(dataset, dataset.folder, {})
    (tmp_path / PLAN_FILE).write_text(json.dumps({"format": 99}))
    with pytest.raises(StorageError, match="format 1"):
        read_corruption(tmp_path)
    with pytest.raises(StorageError, match="not readable"):
        read_corruption(tmp_path / "nowhere")


def test_a_case_that_would_stay_as_it_is_stops_the_copy(tmp_path):
    folder = tmp_path / "clean"
    write_phantoms(folder, make_phantoms(1, 2, 0))
    write_image_picture(folder / "images" / "phantom_000.png", np.full((1, 24, 32), 7, np.uint8))
    with pytest.raises(InputError, match="phantom_000: blur changes nothing"):
        write_corrupted(
            open_dataset(folder), tmp_path / "wrong", {"phantom_000": Corruption("image", "blur", 1)}
        )


def test_a_case_without_a_label_keeps_its_plan_from_starting(dataset, tmp_path):
    name = next(iter(dataset.cases))
    bare = replace(dataset, cases={name: replace(dataset.cases[name], label=None)})
    with pytest.raises(InputError, match="has no label"):
        write_corrupted(bare, tmp_path / "new", {name: Corruption("label", "swap", 1)})
