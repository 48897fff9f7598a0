"""`sfumato compare`: what each method alone gives, in one shared pass, resumed after a kill, clear about mistakes."""

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.datasets import make_phantoms, open_dataset, write_phantoms
from sfumato.errors import ConfigError, SfumatoError
from sfumato.imaging import read_image, read_label
from sfumato.metrics.regions import region_masks
from sfumato.metrics.selective import selective
from sfumato.pipeline.case import PredictOptions, predict_image
from sfumato.runs.compare import CompareConfig, compare_methods
from sfumato.runs.compare import run as compare_run
from sfumato.runs.compare.cost import CostMeter
from sfumato.runs.judge import METRICS
from sfumato.segmenters import FrozenSegmenter
from sfumato.storage import load_method, save_segmenter
from sfumato.types import Kind

METHODS = ("temperature_scaling", "perturbation_head")
TINY = {"perturbation_head": {"epochs": 1, "width": 4, "probes": 2, "hidden": 4}}


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_segmenter):
    """Twenty phantoms (4 test, 4 calibration) and a trained small network."""
    folder = tmp_path_factory.mktemp("compare")
    write_phantoms(folder / "data", make_phantoms(20, spatial_dims=3, seed=5, noise=0.45))
    segmenter = tiny_segmenter("softmax_3d")
    save_segmenter(folder / "net", segmenter.module, segmenter.spec)
    return folder


def config_of(world, out, **changes):
    base = {"segmenter": world / "net", "data": world / "data", "out": out, "methods": METHODS}
    return CompareConfig(**(base | {"settings": TINY, "resamples": 50} | changes))


@pytest.fixture(scope="module")
def finished(world):
    """A finished comparison and what it found."""
    out = world / "finished"
    return out, compare_methods(config_of(world, out))


def copy_of(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "out")
    return tmp_path / "out"


def test_everything_is_there(finished):
    out, results = finished
    assert list(results["methods"]) == ["softmax", *METHODS]
    assert (results["cases"], results["patients"], results["split"]) == (4, 4, "test")
    clean = results["conditions"]["clean"]
    assert set(clean["regions"]) == {"whole", "near", "foreground", "boundary"}
    for methods in clean["regions"].values():
        for label, entry in methods.items():
            assert set(entry["per_case"]) == set(entry["pooled"]) == set(METRICS)
            assert (entry["difference"] is None) == (label == "softmax")
    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert len(rows) == 4 * 3 * len(METRICS)
    assert json.loads((out / "results.json").read_text()) == results
    page, markdown = (out / "index.html").read_text(), (out / "results.md").read_text()
    for label in results["methods"]:
        assert label in page
        assert label in markdown


def test_numbers_are_those_of_each_method_alone(finished, world):
    out, results = finished
    dataset = open_dataset(world / "data")
    for label in results["methods"]:
        method = load_method(out / "methods" / label)
        aurocs, wholes = [], []
        for name in dataset.splits()["test"]:
            case = dataset.cases[name]
            found = predict_image(method, read_image(case.images, name), options=PredictOptions(float32=True))
            label_map = read_label(case.label, name).array
            near = region_masks(found.segmentation, label_map)["near"]
            ranks = found.maps[Kind.RANKING if Kind.RANKING in found.maps else method.spec.ranks_by]
            aurocs.append(selective(ranks[near], (found.segmentation != label_map)[near]).auroc)
            wholes.append((ranks[near], (found.segmentation != label_map)[near]))
        entry = results["conditions"]["clean"]["regions"]["near"][label]
        assert entry["per_case"]["auroc"]["mean"] == pytest.approx(np.nanmean(aurocs), abs=1e-9)
        exact = selective(*(np.concatenate(parts) for parts in zip(*wholes, strict=True))).auroc
        pooled = entry["pooled"]["auroc"]
        assert abs(pooled["value"] - exact) <= pooled["bound"] + 1e-12
        assert pooled["low"] <= pooled["value"] <= pooled["high"]


def test_differences_are_paired(finished):
    near = finished[1]["conditions"]["clean"]["regions"]["near"]
    for entry in near.values():
        if entry["difference"]:
            expected = entry["per_case"]["ece"]["mean"] - near["softmax"]["per_case"]["ece"]["mean"]
            assert entry["difference"]["ece"]["mean"] == pytest.approx(expected, abs=1e-12)


def test_temperature_changes_no_ranking_of_two_classes_but_the_calibration(finished):
    near = finished[1]["conditions"]["clean"]["regions"]["near"]
    tempered, raw = near["temperature_scaling"], near["softmax"]
    assert tempered["per_case"]["auroc"]["mean"] == pytest.approx(raw["per_case"]["auroc"]["mean"], abs=1e-3)
    assert tempered["pooled"]["nll"]["value"] != raw["pooled"]["nll"]["value"]


def test_the_segmenter_runs_once_for_all_methods(finished, world, tmp_path, monkeypatch):
    out = copy_of(finished, tmp_path)
    shutil.rmtree(out / "cases")
    calls = []
    original = FrozenSegmenter.segment

    def counted(self, batch):
        calls.append(tuple(batch.image.shape))
        return original(self, batch)

    monkeypatch.setattr(FrozenSegmenter, "segment", counted)
    compare_methods(config_of(world, out))
    # One window and one dry run that asks for the shapes, per case; a dry run for every network that is loaded.
    assert len(calls) <= 2 * 4 + 4


def test_started_again_it_keeps_everything(finished, world, tmp_path, monkeypatch):
    out = copy_of(finished, tmp_path)
    before = (out / "results.csv").read_bytes()

    def never(*arguments, **more):
        raise AssertionError("a judged case was computed again")

    monkeypatch.setattr(compare_run, "predict_methods", never)
    states = []
    again = compare_methods(config_of(world, out), lambda name, state: states.append(state))
    assert states == ["kept"] * 4
    assert (out / "results.csv").read_bytes() == before
    assert again["conditions"] == finished[1]["conditions"]


@pytest.mark.parametrize("damage", ["missing", "truncated", "foreign"])
def test_a_lost_or_damaged_judgement_is_computed_again(finished, world, tmp_path, damage):
    out = copy_of(finished, tmp_path)
    victim = sorted((out / "cases" / "clean" / "perturbation_head").glob("*.npz"))[1]
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:200])
    else:
        shutil.copy(out / "cases" / "clean" / "softmax" / victim.name, victim)
    states = []
    compare_methods(config_of(world, out), lambda name, state: states.append(state))
    assert sorted(states) == ["done", "kept", "kept", "kept"]
    assert (out / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


def test_memory_splits_the_pass_and_changes_no_number(finished, world, tmp_path):
    out = copy_of(finished, tmp_path)
    shutil.rmtree(out / "cases")
    compare_methods(config_of(world, out, max_ram=1e-6))
    assert (out / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()


def test_corruptions_stand_beside_the_clean_images(finished, world, tmp_path):
    out = copy_of(finished, tmp_path)
    results = compare_methods(config_of(world, out, corruptions=[("noise", 3), ("blur", 1)]))
    assert list(results["conditions"]) == ["clean", "noise-3", "blur-1"]
    assert results["conditions"]["clean"] == finished[1]["conditions"]["clean"]
    dice = {n: c["segmentation"]["dice"]["mean"]["mean"] for n, c in results["conditions"].items()}
    assert dice["noise-3"] < dice["clean"]
    assert "Under shift" in (out / "index.html").read_text()


def test_an_unusable_case_is_said_and_the_others_go_on(finished, world, tmp_path):
    data = shutil.copytree(world / "data", tmp_path / "data")
    victim = open_dataset(data).splits()["test"][0]
    next((data / "images").glob(f"{victim}.*")).write_bytes(b"not an image")
    out = copy_of(finished, tmp_path)
    results = compare_methods(config_of(world, out, data=data))
    assert results["cases"] == 3
    assert len(results["problems"]) == 1
    assert victim in results["problems"][0]


def test_several_readers_are_compared_with_the_maps(world, tmp_path):
    data = shutil.copytree(world / "data", tmp_path / "data")
    (data / "masks").rename(data / "masks_annotator1")
    shutil.copytree(data / "masks_annotator1", data / "masks_annotator2")
    names = sorted(p.name for p in (data / "masks_annotator2").iterdir())
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        shutil.copy(data / "masks_annotator1" / other, data / "masks_annotator2" / name)
    results = compare_methods(
        config_of(world, tmp_path / "out", data=data, methods=("softmax",), settings={})
    )
    entry = results["conditions"]["clean"]["readers"]["softmax"]
    assert -1 <= entry["ncc_ranking"]["mean"] <= 1
    assert 0 <= entry["auroc_consensus_near"]["mean"] <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ("softmx",)}, "softmax"),
        ({"settings": {"error_head": {"steps": 1}}}, "not compared"),
        ({"methods": ("deep_ensemble",), "settings": {}}, "--members"),
        ({"split": "tset"}, "train, calibration, test"),
    ],
)
def test_mistakes_are_one_sentence(world, tmp_path, changes, message):
    with pytest.raises(SfumatoError, match=message):
        compare_methods(config_of(world, tmp_path / "out", **changes))


def test_members_without_a_method_that_runs_them(world, tmp_path):
    with pytest.raises(ConfigError, match="deep_ensemble"):
        compare_methods(config_of(world, tmp_path / "out", members=(world / "net",)))


def test_a_method_fitted_before_joins_under_its_folders_name(finished, world, tmp_path):
    mine = shutil.copytree(finished[0] / "methods" / "perturbation_head", tmp_path / "mine")
    results = compare_methods(
        config_of(world, tmp_path / "out", methods=("softmax",), settings={}, fitted=(mine,))
    )
    found = results["conditions"]["clean"]["regions"]["near"]["mine"]["per_case"]
    expected = finished[1]["conditions"]["clean"]["regions"]["near"]["perturbation_head"]["per_case"]
    assert found == expected


def test_the_command_prints_a_table_and_machine_output(finished, world):
    arguments = [
        "compare",
        "--segmenter",
        str(world / "net"),
        "--data",
        str(world / "data"),
        "--resamples",
        "50",
    ]
    arguments += ["--methods", ",".join(METHODS), "--out", str(finished[0]), "--device", "auto"]
    for name, value in TINY["perturbation_head"].items():
        arguments += ["--set", f"perturbation_head.{name}={value}"]
    torch.manual_seed(0)
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0, shown.output
    assert "Spearman" in shown.stdout
    machine = CliRunner().invoke(app, [*arguments, "--json"])
    assert list(json.loads(machine.stdout)["methods"]) == ["softmax", *METHODS]


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same_table(finished, world, tmp_path):
    command = [sys.executable, "-m", "sfumato", "compare", "--segmenter", str(world / "net")]
    command += ["--data", str(world / "data"), "--out", str(tmp_path / "out"), "--resamples", "50"]
    command += ["--methods", ",".join(METHODS), "--device", "auto"]
    for name, value in TINY["perturbation_head"].items():
        command += ["--set", f"perturbation_head.{name}={value}"]
    rng = np.random.default_rng(7)
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(float(rng.uniform(2.0, 7.0)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == (finished[0] / "results.csv").read_bytes()
    assert not list((tmp_path / "out").rglob("*.part"))


def test_the_meter_adds_up_per_part():
    meter = CostMeter()
    for _ in range(2):
        with meter("work"):
            block = np.ones(4_000_000)
            del block
        with meter("rest"):
            pass
    work = meter.parts["work"]
    assert work.cpu > meter.parts["rest"].cpu
    assert work.peak is None or work.peak >= 30e6


def test_the_page_needs_nothing_but_itself(finished):
    page = (finished[0] / "index.html").read_text()
    assert "default-src 'none'" in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert page.count("data:image/png;base64,") >= 6
