"""Scores of labels come from segmenters that never saw the patient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato import get_method, predict_image, read_image
from sfumato.errors import ConfigError
from sfumato.methods.sample_difficulty.agreement import label_agreement
from sfumato.pipeline.case import PredictOptions
from sfumato.runs.difficulty.folds import write_folds
from sfumato.storage import save_segmenter


@pytest.fixture
def segmenter_folder(tmp_path, tiny_segmenter):
    """`segmenter_folder(name, seed, train)` saves a tiny network that says it was trained on these cases."""

    def make(name: str, seed: int, train: list[str]) -> Path:
        segmenter = tiny_segmenter("softmax_2d", seed)
        save_segmenter(tmp_path / name, segmenter.module, segmenter.spec)
        (tmp_path / name / "splits.json").write_text(json.dumps({"train": train}))
        return tmp_path / name

    return make


def test_every_case_is_judged_by_those_that_did_not_see_it(
    pictures, score, rows_of, segmenter_folder, tiny_segmenter
):
    data = pictures(4)
    first = segmenter_folder("fold0", 0, ["phantom_000", "phantom_003"])
    second = segmenter_folder("fold1", 1, ["phantom_001", "phantom_003"])
    summary = score(data, segmenters=(first, second))
    rows = rows_of(summary.index)
    assert [row["segmenters"] for row in rows.values()] == [1, 1, 2, 0]
    assert summary.unjudged == 1
    assert np.isnan(rows["phantom_003"]["disagreement"])
    assert np.isnan(rows["phantom_003"]["label_score"])

    def probability(name: str, seed: int) -> np.ndarray:
        spec, image = get_method("softmax"), read_image(data / f"images/{name}.png")
        method = spec.build(spec.config(), tiny_segmenter("softmax_2d", seed))
        found = predict_image(method, image, options=PredictOptions(float32=True)).probability
        return found.astype(np.float64)

    for name, mean in (
        ("phantom_000", probability("phantom_000", 1)),
        ("phantom_001", probability("phantom_001", 0)),
        ("phantom_002", (probability("phantom_002", 0) + probability("phantom_002", 1)) / 2),
    ):
        label = np.array(PillowImage.open(data / f"masks/{name}.png")).astype(int)
        expected = label_agreement(mean, label)
        for column in ("disagreement", "surprise", "softmin"):
            assert rows[name][column] == pytest.approx(getattr(expected, column), abs=1e-12)


def test_a_patients_other_case_counts_as_seen(pictures, score, rows_of, segmenter_folder):
    data = pictures(3)
    for part in ("images", "masks"):
        for number in range(3):
            path = data / part / f"phantom_{number:03d}.png"
            path.rename(data / part / f"patient{number // 2}_frame{number}.png")
    folder = segmenter_folder("net", 0, ["patient0_frame0"])
    rows = rows_of(score(data, segmenters=(folder,)).index)
    assert {name: row["segmenters"] for name, row in rows.items()} == {
        "patient0_frame0": 0,
        "patient0_frame1": 0,
        "patient1_frame2": 1,
    }


def test_a_wrong_label_has_the_highest_label_score(pictures, score, rows_of, segmenter_folder):
    data = pictures(12)
    path = data / "masks/phantom_005.png"
    label = np.array(PillowImage.open(path))
    PillowImage.fromarray(np.roll(label, 12, axis=1)).save(path)
    rows = rows_of(score(data, segmenters=(segmenter_folder("net", 0, []),)).index)
    assert max(rows.values(), key=lambda row: row["disagreement"])["case"] == "phantom_005"
    assert max(rows.values(), key=lambda row: row["label_score"])["case"] == "phantom_005"


def test_a_label_the_segmenter_has_no_class_for_is_said(pictures, score, rows_of, segmenter_folder):
    data = pictures(3)
    path = data / "masks/phantom_001.png"
    PillowImage.fromarray(np.array(PillowImage.open(path)) + np.uint8(7)).save(path)
    summary = score(data, segmenters=(segmenter_folder("net", 0, []),))
    row = rows_of(summary.index)["phantom_001"]
    assert (row["status"], row["label_status"]) == ("ok", "error")
    assert "label values" in row["label_message"]
    assert summary.label_problems == (row["label_message"],)


def test_a_segmenter_of_unknown_training_cases_is_refused(pictures, score, segmenter_folder):
    folder = segmenter_folder("net", 0, [])
    (folder / "splits.json").unlink()
    with pytest.raises(ConfigError, match="nobody knows which cases"):
        score(pictures(3), segmenters=(folder,))


def test_other_segmenters_are_other_settings(pictures, score, segmenter_folder):
    data = pictures(3)
    score(data, segmenters=(segmenter_folder("net", 0, []),))
    with pytest.raises(ConfigError, match="segmenters"):
        score(data, segmenters=(segmenter_folder("net", 0, ["phantom_000"]),))


def test_folds_hold_out_every_case_once_and_patients_as_a_whole(pictures, tmp_path):
    data = pictures(9)
    for part in ("images", "masks"):
        for number in range(9):
            path = data / part / f"phantom_{number:03d}.png"
            path.rename(data / part / f"patient{number // 2}_frame{number}.png")
    written = [json.loads(p.read_text()) for p in write_folds(data, tmp_path / "folds", 3, seed=4)]
    names = sorted(p.stem for p in (data / "images").iterdir())
    assert sorted(name for fold in written for name in fold["test"]) == names
    for fold in written:
        assert sorted(fold["train"] + fold["test"]) == names
        patients = [{n.split("_")[0] for n in fold[part]} for part in ("train", "test")]
        assert not patients[0] & patients[1]


def test_folds_of_a_training_split_leave_the_others_out(pictures, tmp_path):
    data = pictures(10)
    names = [f"phantom_{i:03d}" for i in range(10)]
    (tmp_path / "splits.json").write_text(
        json.dumps({"train": names[:6], "calibration": names[6:8], "test": names[8:]})
    )
    for path in write_folds(data, tmp_path / "folds", 2, tmp_path / "splits.json"):
        fold = json.loads(path.read_text())
        assert sorted(fold["train"] + fold["test"]) == names[:6]
        assert fold["calibration"] == []


@pytest.mark.parametrize("folds", [1, 11])
def test_folds_that_cannot_be(pictures, tmp_path, folds):
    with pytest.raises(ConfigError, match="number of patients, 10"):
        write_folds(pictures(10), tmp_path / "folds", folds)
