"""Runs on folders: fit, predict, evaluate, and what is left after a run was killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.errors import ConfigError
from sfumato.imaging import Geometry, write_nifti
from sfumato.runs.evaluate import evaluate_method
from sfumato.runs.files import find_inputs, locked
from sfumato.runs.fit import FitOptions, fit_method
from sfumato.runs.predict import predict_files
from sfumato.segmenters import build_preset, wrap
from sfumato.storage import load_method, save_method

TINY = {"epochs": 1, "width": 4, "probes": 2, "hidden": 4}


def write_balls(folder: Path, count: int = 10, size: int = 20) -> Path:
    rng = np.random.default_rng(0)
    axes = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"))
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for index in range(count):
        centre = rng.uniform(7, size - 7, (3, 1, 1, 1))
        label = (((axes - centre) ** 2).sum(0) < 25).astype(np.uint8)
        geometry = Geometry(label.shape, np.diag([1.0, 1.0, 2.0, 1.0]))
        write_nifti(
            folder / "images" / f"case{index:02d}.nii.gz", label + rng.normal(0, 0.5, label.shape), geometry
        )
        write_nifti(folder / "masks" / f"case{index:02d}.nii.gz", label, geometry)
    return folder


def small_segmenter(dims: int = 3):
    torch.manual_seed(0)
    network = build_preset(f"resunet{dims}d", 1, 2, widths=[4, 8])
    return wrap(
        network,
        ("background", "ball"),
        spatial_dims=dims,
        divisor=2,
        window=(16,) * dims,
        source=f"preset:resunet{dims}d",
        arguments={"widths": [4, 8]},
    )


@pytest.fixture(scope="module")
def balls(tmp_path_factory):
    return write_balls(tmp_path_factory.mktemp("balls"))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, balls):
    folder = tmp_path_factory.mktemp("fitted")
    fit_method(
        "perturbation_head",
        small_segmenter(),
        balls,
        folder,
        TINY,
        FitOptions(target_risk=0.9),
        say=lambda _: None,
    )
    return folder


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in ("manifest.json", ".lock")
    }


def test_fit_keeps_rules_curves_and_who_was_used(fitted):
    record = json.loads((fitted / "method.json").read_text())["record"]
    assert set(record["rules"]) == {"case", "voxel"}
    assert record["curves"]["source"] == "calibration cases"
    assert not set(record["fitted_on"]) & set(record["calibrated_on"])
    assert set(record["fitted_on"]) | set(record["calibrated_on"]) == set(record["splits"]["calibration"])


def test_a_folder_holds_one_fit(fitted, balls):
    with pytest.raises(ConfigError, match="holds a fit with another settings"):
        fit_method(
            "perturbation_head",
            small_segmenter(),
            balls,
            fitted,
            TINY | {"epochs": 2},
            FitOptions(target_risk=0.9),
        )


def test_a_saved_method_predicts_the_same(fitted, tmp_path):
    method = load_method(fitted)
    save_method(tmp_path, method)
    again = load_method(tmp_path)
    for name, value in method.estimator.state_dict().items():
        assert torch.equal(value, again.estimator.state_dict()[name])
    assert again.config == method.config


def test_outputs_of_a_volume(fitted, balls, tmp_path):
    source = balls / "images" / "case00.nii.gz"
    summary = predict_files(fitted, [source], tmp_path)
    assert summary.done == ("case00",)
    folder = tmp_path / "case00"
    names = {p.name for p in folder.iterdir()}
    maps = {
        f"{n}.nii.gz" for n in ("segmentation", "probability", "error", "ranking", "epistemic", "aleatoric")
    }
    assert maps | {"case.json", "report.html"} <= names
    image = nib.load(source)
    for name in maps:
        found = nib.load(folder / name)
        np.testing.assert_array_equal(found.affine, image.affine)
        assert found.shape[:3] == image.shape
    probability = nib.load(folder / "probability.nii.gz").get_fdata()
    assert probability.shape[3] == 2
    np.testing.assert_allclose(probability.sum(-1), 1, atol=2 / 255)
    assert nib.load(folder / "error.nii.gz").get_data_dtype() == np.uint8
    content = json.loads((folder / "case.json").read_text())
    assert content["decision"]["verdict"] in ("accept", "review")
    voxels = (np.asarray(nib.load(folder / "segmentation.nii.gz").dataobj) == 1).sum()
    assert content["volumes"]["ball"]["ml"] == pytest.approx(voxels * 2.0 / 1000)
    for name in ("index.html", "cases.csv", "manifest.json"):
        assert (tmp_path / name).exists()


def test_float32_maps_differ_by_at_most_the_stated_error(fitted, balls, tmp_path):
    from sfumato.pipeline.case import PredictOptions

    source = [balls / "images" / "case01.nii.gz"]
    predict_files(fitted, source, tmp_path / "a")
    predict_files(fitted, source, tmp_path / "b", PredictOptions(float32=True))
    stated = json.loads((tmp_path / "a" / "case01" / "case.json").read_text())["files"]
    for name in ("probability", "error"):
        small, full = (nib.load(tmp_path / x / "case01" / f"{name}.nii.gz") for x in "ab")
        assert full.get_data_dtype() == np.float32
        difference = np.abs(small.get_fdata() - full.get_fdata()).max()
        assert difference <= stated[f"{name}.nii.gz"]["largest_rounding_error"] + 1e-6


def test_outputs_of_a_picture(balls, tmp_path):
    data = tmp_path / "pictures"
    rng = np.random.default_rng(1)
    for part in ("images", "masks"):
        (data / part).mkdir(parents=True)
    for index in range(10):
        label = np.zeros((24, 30), np.uint8)
        label[5:12, 6:16] = 1
        image = np.clip(label * 90 + rng.normal(90, 20, label.shape), 0, 255).astype(np.uint8)
        PillowImage.fromarray(image).save(data / "images" / f"p{index}.png")
        PillowImage.fromarray(label * 255).save(data / "masks" / f"p{index}.png")
    network = small_segmenter(2)
    from dataclasses import replace

    network.spec = replace(network.spec, label_values=(0, 255))
    fit_method("perturbation_head", network, data, tmp_path / "fit", TINY, say=lambda _: None)
    predict_files(tmp_path / "fit", [data / "images"], tmp_path / "out")
    folder = tmp_path / "out" / "p3"
    assert set(np.unique(np.asarray(PillowImage.open(folder / "segmentation.png")))) <= {0, 255}
    error = tifffile.imread(folder / "error.tiff")
    assert error.shape == (24, 30)
    assert error.dtype == np.float32
    assert tifffile.imread(folder / "probability.tiff").shape == (2, 24, 30)


def test_one_bad_case_does_not_stop_the_others(fitted, balls, tmp_path):
    (tmp_path / "in").mkdir()
    good = (balls / "images" / "case02.nii.gz").read_bytes()
    (tmp_path / "in" / "good.nii.gz").write_bytes(good)
    (tmp_path / "in" / "short.nii.gz").write_bytes(good[: len(good) // 2])
    broken = np.full((8, 8, 8), np.nan, np.float32)
    write_nifti(tmp_path / "in" / "nan.nii.gz", broken, Geometry(broken.shape))
    result = CliRunner().invoke(
        app, ["predict", str(fitted), str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]
    )
    assert result.exit_code == 1
    content = json.loads(result.stdout)
    assert content["done"] == ["good"]
    assert len(content["failures"]) == 2
    assert any("512 of 512 voxels" in f for f in content["failures"])
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["failures"] == content["failures"]
    assert "short" in (tmp_path / "out" / "index.html").read_text()


def test_the_same_command_keeps_what_is_finished(fitted, balls, tmp_path):
    first = predict_files(fitted, [balls / "images"], tmp_path)
    before = digests(tmp_path)
    second = predict_files(fitted, [balls / "images"], tmp_path)
    assert len(first.done) == 10
    assert second.done == ()
    assert second.kept == first.done
    assert digests(tmp_path) == before


def test_a_changed_image_is_computed_again(fitted, balls, tmp_path):
    path = tmp_path / "x.nii.gz"
    path.write_bytes((balls / "images" / "case00.nii.gz").read_bytes())
    predict_files(fitted, [path], tmp_path / "out")
    path.write_bytes((balls / "images" / "case01.nii.gz").read_bytes())
    assert predict_files(fitted, [path], tmp_path / "out").done == ("x",)


@pytest.mark.slow
def test_killed_runs_end_byte_equal(fitted, balls, tmp_path):
    command = [sys.executable, "-m", "sfumato", "predict", str(fitted), str(balls / "images"), "--out"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    out = tmp_path / "killed"
    for wanted in (1, 4):
        process = subprocess.Popen([*command, str(out)], env=environment, stderr=subprocess.DEVNULL)
        while process.poll() is None and len(list(out.glob("case*/case.json"))) < wanted:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = len(list(out.glob("case*/case.json")))
    assert finished < 10
    subprocess.run([*command, str(out)], check=True, env=environment, capture_output=True)
    assert digests(out) == digests(tmp_path / "whole")


def test_two_runs_do_not_write_into_one_folder(fitted, balls, tmp_path):
    with locked(tmp_path):
        result = CliRunner().invoke(
            app, ["predict", str(fitted), str(balls / "images"), "--out", str(tmp_path)]
        )
    assert "another run is writing here" in str(result.exception)


def test_memory_limit_refuses_before_computing(fitted, balls, tmp_path):
    command = [
        "predict",
        str(fitted),
        str(balls / "images" / "case00.nii.gz"),
        "--out",
        str(tmp_path),
        "--max-ram",
        "1e-6",
    ]
    result = CliRunner().invoke(app, [*command, "--json"])
    assert result.exit_code == 1
    assert "--max-ram" in json.loads(result.stdout)["failures"][0]


def test_evaluate_shows_three_regions_and_equal_dice(fitted, balls, tmp_path):
    results = evaluate_method(fitted, balls, "test", tmp_path)
    assert set(results["regions"]) == {"whole", "near", "foreground"}
    assert results["dice"]["relabelled_voxels"] == 0
    assert results["cases"] == 2
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3


def test_channels_of_a_case_are_found_by_number(tmp_path):
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b.nii.gz", "scan_2024.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    cases = {c.name: [p.name for p in c.images] for c in find_inputs([tmp_path])}
    assert cases == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"],
        "b": ["b.nii.gz"],
        "scan_2024": ["scan_2024.nii.gz"],
    }
