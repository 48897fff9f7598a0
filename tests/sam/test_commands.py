"""The commands on a data set of discs, from fitting to a cascade, with the phantom as the network."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.runs.sam.filter import FilterRule, expected_threshold
from sfumato.runs.sam.heads import open_heads, open_ladder

from .conftest import ball, prompts_file

LADDER = ["--segmenter", "phantom@64", "--ladder", "phantom@128"]


def run(*words, code=0):
    result = CliRunner().invoke(app, ["sam", *map(str, words)])
    if code == 0 and result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def as_json(*words, code=0):
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def heads(pictures, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("heads")
    settings = ["--set", "epochs=4", "--set", "members=1", "--set", "hidden=[16]", "--threads", 1]
    run("fit", pictures, "--objects", "instances", "--per-image", 2, *LADDER, *settings, "--out", out)
    return out


def test_fit_again_keeps_everything(heads, pictures):
    before = {path: path.stat().st_mtime_ns for path in heads.rglob("*.npz")}
    stamp = (heads / "estimator.safetensors").stat().st_mtime_ns
    settings = ["--set", "epochs=4", "--set", "members=1", "--set", "hidden=[16]"]
    run("fit", pictures, "--objects", "instances", "--per-image", 2, *LADDER, *settings, "--out", heads)
    assert before == {path: path.stat().st_mtime_ns for path in heads.rglob("*.npz")}
    assert stamp == (heads / "estimator.safetensors").stat().st_mtime_ns


def test_heads_know_their_ladder_and_the_place_of_a_network_on_it(heads):
    cheap, large = open_heads(heads), open_heads(heads, "phantom@128")
    assert (cheap.rung, large.rung) == (0, 1)
    assert (cheap.larger, large.larger) == ("phantom128", None)
    assert open_ladder(cheap).names == ("phantom64", "phantom128")
    with pytest.raises(StorageError, match="was fitted on"):
        open_heads(heads, "phantom@256")
    with pytest.raises(StorageError, match="name all networks"):
        open_ladder(cheap, ["phantom@64", "phantom@256"])


def test_heads_are_calibrated_on_other_pictures_than_they_learned_from(heads):
    record = open_heads(heads).record
    splits = record["splits"]["data"]
    assert not set(splits["train"]) & set(splits["calibration"])
    assert record["calibration"]["groups"] == len(splits["calibration"])
    assert record["calibration"]["error_expected"] < record["calibration"]["error_own_estimate"]


def test_a_picture_is_segmented_and_described(heads, pictures, tmp_path):
    image = pictures / "images/p00.png"
    label = np.array(PillowImage.open(pictures / "masks/p00.png"))
    row, column = np.argwhere(label == 3).mean(axis=0).round().astype(int)
    found = as_json("predict", image, "--point", f"{row},{column}", "--heads", heads, "--out", tmp_path)
    folder = tmp_path / "p00"
    (told,) = found["objects"]
    assert 0 <= told["interval"][0] <= told["expected_iou"] <= told["interval"][1] <= 1
    assert told["sentence"].startswith(f"Expected IoU {told['expected_iou']:.2f}")
    mask = np.array(PillowImage.open(folder / "segmentation.png"))
    assert mask.shape == label.shape
    assert set(np.unique(mask)) == {0, 1}
    assert mask.sum() == told["masks"][told["offered"] - 1]["pixels"]
    alternatives = [np.array(PillowImage.open(folder / f"alternatives/1_{j}.png")) for j in (1, 2, 3)]
    assert (alternatives[told["offered"] - 1] == mask).all()
    probability = tifffile.imread(folder / "probability.tiff")
    assert ((probability > 0.5) == (mask > 0)).mean() > 0.99
    assert tifffile.imread(folder / "entropy.tiff").max() <= 1
    assert (folder / "picture.png").read_bytes()[:4] == b"\x89PNG"
    assert found["done"] == ["p00"]


def test_a_second_run_keeps_finished_cases_and_another_click_does_not(heads, pictures, tmp_path):
    words = ["predict", pictures / "images/p00.png", "--heads", heads, "--out", tmp_path]
    assert as_json(*words, "--point", "20,20")["done"] == ["p00"]
    before = (tmp_path / "p00/case.json").read_bytes()
    assert as_json(*words, "--point", "20,20")["kept"] == ["p00"]
    assert as_json(*words, "--point", "20,21")["done"] == ["p00"]
    assert as_json(*words, "--point", "20,20")["done"] == ["p00"]
    assert before == (tmp_path / "p00/case.json").read_bytes()


def test_without_heads_nothing_is_called_calibrated(pictures, tmp_path):
    words = ["predict", pictures / "images/p00.png", "--box", "5,5,30,30", "--segmenter", "phantom"]
    (told,) = as_json(*words, "--out", tmp_path)["objects"]
    assert told["expected_iou"] is None
    assert told["gaps"] == {"model": None, "prompt": None, "task": None}
    assert "not calibrated" in told["sentence"]
    page = (tmp_path / "p00/report.html").read_text(encoding="utf-8")
    assert "nothing here is calibrated" in page
    assert "expected IoU</td>" not in page


def test_a_volume_keeps_its_geometry_and_its_slices_add_up(heads, volume, tmp_path):
    words = ["predict", volume, "--slice", 6, "--box", "9,11,27,29", "--heads", heads, "--least-iou", 0]
    (told,) = as_json(*words, "--out", tmp_path)["objects"]
    mask, image = nib.load(tmp_path / "ball/segmentation.nii.gz"), nib.load(volume)
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape
    voxels = np.moveaxis(np.asarray(mask.dataobj), 1, 0)
    for entry in told["slices"]:
        assert (voxels[entry["slice"]] == 1).sum() == entry["pixels"]
    assert voxels.any(axis=(1, 2)).sum() == len(told["slices"])
    truth = ball()[1]
    assert (voxels.astype(bool) & truth).sum() / (voxels.astype(bool) | truth).sum() > 0.5
    ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert told["volume"]["ml"] == pytest.approx(voxels.sum() * ml)


def test_several_images_with_a_prompts_file_and_one_that_fails(heads, pictures, tmp_path):
    objects = [{"name": "a", "points": [[20, 20, 1]]}, {"name": "b", "box": [30, 30, 50, 50]}]
    outside = [{"points": [[200, 20, 1]]}]
    file = prompts_file(tmp_path, {"images": {"p00": objects, "p01": outside}})
    images = [pictures / f"images/p0{i}.png" for i in (0, 1, 2)]
    found = as_json(
        "predict", *images, "--prompts", file, "--heads", heads, "--out", tmp_path / "out", code=1
    )
    assert found["done"] == ["p00"]
    assert [o["name"] for o in sorted(found["objects"], key=lambda o: o["number"])] == ["a", "b"]
    assert sorted(found["failures"]) == [
        "p01, object_1: row 200, column 20 lies outside, expected rows 0 to 55 and columns 0 to 63.",
        "p02: no prompts, expected a click or a box; name it in the prompts file.",
    ]
    values = [o["expected_iou"] for o in found["objects"]]
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ([], ConfigError, "Nothing is pointed at"),
        (["--point", "3,4,-"], ConfigError, "Nothing is pointed at"),
        (["--point", "3,4", "--prompts", "x.json"], ConfigError, "one or the other"),
        (["--point", "3"], InputError, "expected ROW,COLUMN"),
        (["--prompts", "missing.json"], InputError, "expected JSON"),
    ],
)
def test_wrong_prompts_are_one_sentence(pictures, tmp_path, words, error, said):
    with pytest.raises(error, match=said):
        run("predict", pictures / "images/p00.png", "--segmenter", "phantom", "--out", tmp_path, *words)


def test_predict_sam_is_sam_predict(heads, pictures, tmp_path):
    words = [str(pictures / "images/p00.png"), "--point", "20,20", "--heads", str(heads), "--json"]
    first = CliRunner().invoke(app, ["predict", "sam", *words, "--out", str(tmp_path / "a")])
    second = CliRunner().invoke(app, ["sam", "predict", *words, "--out", str(tmp_path / "b")])
    assert json.loads(first.stdout)["objects"] == json.loads(second.stdout)["objects"]
    text = CliRunner().invoke(app, ["predict", "sam", "--help"]).stdout
    assert "--point" in text
    assert "--overlap" not in text


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_order_is_by_expected_iou_and_names_every_object(heads, pictures, tmp_path):
    words = ["annotate-order", pictures, "--objects", "instances", "--heads", heads, "--out", tmp_path]
    run(*words)
    rows = rows_of(tmp_path / "order.csv")
    values = [float(row["expected_iou"]) for row in rows]
    assert values == sorted(values)
    objects = {(row["case"], int(row["value"])) for row in rows}
    expected = set()
    for path in (pictures / "masks").iterdir():
        label = np.array(PillowImage.open(path))
        expected |= {(path.stem, v) for v in np.unique(label[label > 0]).tolist() if (label == v).sum() >= 10}
    assert objects == expected
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "judged").iterdir()}
    run(*words)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "judged").iterdir()}
    assert rows == rows_of(tmp_path / "order.csv")


def test_the_filter_writes_the_masks_that_it_kept_and_no_others(heads, pictures, tmp_path):
    words = ["filter", pictures, "--objects", "instances", "--prompt-kind", "box", "--heads", heads]
    limit = float(np.median([float(r["expected_iou"]) for r in _judged(heads, pictures, tmp_path)]))
    found = as_json(*words, "--threshold", limit, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out/filter.csv")
    assert found["kept"] == sum(int(r["kept"]) for r in rows)
    assert 0 < found["kept"] < found["total"]
    assert np.mean([float(r["weight"]) for r in rows]) == pytest.approx(1, abs=1e-3)
    for path in (tmp_path / "out/masks").iterdir():
        values = set(np.unique(np.array(PillowImage.open(path))).tolist()) - {0}
        kept = {int(r["value"]) for r in rows if r["case"] == path.stem and r["kept"] == "1"}
        assert values <= kept


def _judged(heads, pictures, folder):
    run("annotate-order", pictures, "--objects", "instances", "--heads", heads, "--out", folder / "order")
    return rows_of(folder / "order/order.csv")


def test_a_higher_wanted_mean_never_keeps_more():
    quality = np.random.default_rng(0).uniform(size=200)
    thresholds = [expected_threshold(quality.tolist(), wanted) for wanted in np.linspace(0, 1, 21)]
    assert thresholds == sorted(thresholds)
    for wanted, threshold in zip(np.linspace(0, 1, 21), thresholds, strict=True):
        kept = quality[quality >= threshold]
        if len(kept):
            assert kept.mean() >= wanted - 1e-9
        more = np.sort(quality[quality < threshold])[-1:]
        assert not len(more) or np.append(kept, more).mean() < wanted


def test_equal_masks_are_kept_together():
    assert expected_threshold([0.9, 0.5, 0.5, 0.5], 0.7) == 0.9
    assert expected_threshold([0.9, 0.5, 0.5, 0.5], 0.6) == 0.5
    assert math.isinf(expected_threshold([0.5], 0.6))


@pytest.mark.parametrize(
    "rule", [{}, {"mean_iou": 0.5, "threshold": 0.5}, {"mean_iou": 2}, {"mean_iou": 0.5, "by": "x"}]
)
def test_rules_without_sense_are_refused(rule):
    with pytest.raises(ConfigError):
        FilterRule(**rule)


def test_the_cascade_starts_at_the_cheap_and_ends_at_the_large_network(heads, pictures, tmp_path):
    words = [
        "cascade",
        pictures,
        "--objects",
        "instances",
        "--per-image",
        2,
        "--heads",
        heads,
        "--cost",
        "1,3",
    ]
    found = as_json(*words, "--out", tmp_path)
    rows = rows_of(tmp_path / "cascade.csv")
    first, last = rows[0], rows[-1]
    for name in ("heads", "own estimate", "random", "oracle"):
        assert float(first[f"iou {name}"]) == pytest.approx(found["cheap_iou"], abs=1e-4)
        assert float(last[f"iou {name}"]) == pytest.approx(found["large_iou"], abs=1e-4)
        assert all(float(r[f"iou {name}"]) <= float(r["iou oracle"]) + 1e-4 for r in rows)
    assert (float(first["cost"]), float(last["cost"])) == (1.0, 4.0)
    assert found["break_even_share"] == pytest.approx(2 / 3)
    assert 0 <= found["relative_auc"]["heads"]["value"] <= 1


@pytest.mark.parametrize("name", ["predict", "fit", "annotate-order", "filter", "cascade"])
def test_help_has_an_example(name):
    text = " ".join(run(name, "--help").stdout.split())
    assert f"sfumato sam {name}" in text
