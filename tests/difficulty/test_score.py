"""Scoring a data set: what a row says, what depends on what, and what happens to cases that cannot be scored."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from sfumato.errors import ConfigError, DatasetError, InputError, StorageError, UnknownNameError
from sfumato.imaging import Geometry, read_image, write_nifti
from sfumato.runs.difficulty.case import CaseScorer
from sfumato.runs.difficulty.config import ScoreConfig
from sfumato.runs.difficulty.shards import read_rows
from sfumato.runs.difficulty.table import COPY_COLUMNS, INDEX_COLUMNS, LABEL_COLUMNS, RAW_COLUMNS
from sfumato.storage import save_segmenter

LABEL_FREE = ["status", "sha256", "energy", "amplitude", "row_centred", "auv", "class_spectrum", "descriptor"]
"""Columns that no label may move, with those below."""
IMAGE_SCORES = ["neighbour_distance", "class_energy", "class_auv", "axis", "classes"]


def test_a_row_holds_the_image_scale_of_its_pixels(pictures, score, rows_of):
    """The slow way: the 64-pixel picture's singular values by numpy, from the extractor's own definition."""
    data = pictures(4)
    row = rows_of(score(data).index)["phantom_002"]
    image = read_image(data / "images/phantom_002.png").array.astype(np.float32)
    low, high = np.percentile(image, (0.5, 99.5)).astype(np.float32)
    slices = torch.from_numpy((np.clip(image, low, high) - low) / (high - low))[None]
    scaled = torch.nn.functional.interpolate(slices, (48, 64), mode="bilinear", antialias=True)
    values = np.linalg.svd(scaled[0, 0].double().numpy(), compute_uv=False)
    p = values**2 / (values**2).sum()
    assert row["energy"] == pytest.approx(float(-(p * np.log(p)).sum() / np.log(48)), abs=1e-7)
    assert (row["axis"], row["slices"], row["shape"], row["classes"]) == ("H", 1, [24, 32], ["image"])
    assert row["sha256"] == hashlib.sha256((data / "images/phantom_002.png").read_bytes()).hexdigest()
    assert row["images"] == ["images/phantom_002.png"]
    assert row["label"] == "masks/phantom_002.png"


def test_every_case_has_one_row_and_the_columns_that_are_promised(pictures, score, rows_of):
    summary = score(pictures(7))
    rows = rows_of(summary.index)
    assert list(rows) == [f"phantom_{i:03d}" for i in range(7)]
    assert all(list(row) == list(INDEX_COLUMNS) for row in rows.values())
    assert summary.statuses == {"ok": 7}
    assert set(RAW_COLUMNS) - set(INDEX_COLUMNS) == {"seconds", *COPY_COLUMNS}


def test_the_hardest_training_case_has_auv_1_and_the_easiest_0(pictures, score, rows_of):
    rows = rows_of(score(pictures(8)).index).values()
    scales = {row["case"]: row["energy"] for row in rows}
    values = {row["case"]: row["auv"] for row in rows}
    assert values[min(scales, key=scales.__getitem__)] == 1
    assert values[max(scales, key=scales.__getitem__)] == 0
    order = sorted(scales, key=scales.__getitem__)
    assert [values[c] for c in order] == sorted(values.values(), reverse=True)


def test_labels_change_no_label_free_score(pictures, score, rows_of, differing):
    """P33: with every label turned over, shifted to another case or gone."""
    data = pictures(6)
    before = rows_of(score(data).index)
    masks = sorted((data / "masks").iterdir())
    arrays = [np.array(PillowImage.open(path)) for path in masks]
    for path, other in zip(masks, arrays[1:] + arrays[:1], strict=True):
        PillowImage.fromarray(((other + 1) % 3).astype(np.uint8)).save(path)
    masks[2].unlink()
    masks[3].write_bytes(b"no picture")
    after = rows_of(score(data, "after.parquet").index)
    for name, row in before.items():
        moved = differing(row, after[name])
        assert not set(moved) & {*LABEL_FREE, *IMAGE_SCORES, "image_score"}, name
    assert after["phantom_001"]["boundary_contrast"] != before["phantom_001"]["boundary_contrast"]
    assert after["phantom_003"]["label_status"] == "error"
    assert after["phantom_002"]["label_status"] == "none"


def test_images_alone_are_scored(pictures, score, rows_of):
    data = pictures(5)
    shutil.rmtree(data / "masks")
    rows = rows_of(score(data).index)
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert all(np.isnan(row["disagreement"]) and row["label_status"] == "none" for row in rows.values())
    alone = rows_of(score(data / "images", "alone.parquet").index)
    assert [row["auv"] for row in alone.values()] == [row["auv"] for row in rows.values()]


def test_volumes_are_read_along_their_slices(pictures, score, rows_of):
    rows = rows_of(score(pictures(3, dims=3)).index)
    assert {(row["axis"], row["slices"]) for row in rows.values()} == {("D", 20)}


def test_what_cannot_be_scored_is_a_row_with_a_sentence(pictures, score, rows_of):
    data = pictures(5)
    (data / "images/phantom_001.png").write_bytes(b"\x89PNG, cut off")
    PillowImage.fromarray(np.zeros((24, 32), np.uint8)).save(data / "images/phantom_003.png")
    summary = score(data)
    rows = rows_of(summary.index)
    assert rows["phantom_001"]["status"] == "error"
    assert "phantom_001.png: not a readable picture" in rows["phantom_001"]["message"]
    assert summary.failures == (rows["phantom_001"]["message"],)
    assert rows["phantom_003"]["status"] == "empty"
    assert rows["phantom_003"]["auv"] == 1
    assert np.isnan(rows["phantom_001"]["auv"])
    assert np.isnan(rows["phantom_001"]["difficulty"])


def test_a_flagged_case_moves_nobody_elses_auv(pictures, score, rows_of):
    """P23."""
    data = pictures(5)
    before = rows_of(score(data).index)
    PillowImage.fromarray(np.zeros((24, 32), np.uint8)).save(data / "images/phantom_zero.png")
    PillowImage.fromarray(np.zeros((24, 32), np.uint8)).save(data / "masks/phantom_zero.png")
    after = rows_of(score(data, "after.parquet").index)
    assert all(after[name]["auv"] == row["auv"] for name, row in before.items())


def test_a_volume_with_nan_is_an_error_row(tmp_path, pictures, score, rows_of):
    data = pictures(3, dims=3)
    image = np.full((1, 12, 16, 20), np.nan, np.float32)
    write_nifti(data / "images/phantom_001.nii.gz", image, Geometry((12, 16, 20)))
    row = rows_of(score(data).index)["phantom_001"]
    assert row["status"] == "error"
    assert "3840 of 3840 voxels are NaN" in row["message"]


def test_a_bug_in_one_case_stops_no_other(pictures, score, rows_of, monkeypatch):
    whole = CaseScorer._image_columns

    def breaks(self, image):
        if image.name == "phantom_002":
            raise ZeroDivisionError("by nothing")
        return whole(self, image)

    monkeypatch.setattr(CaseScorer, "_image_columns", breaks)
    rows = rows_of(score(pictures(4)).index)
    assert rows["phantom_002"]["message"].startswith("phantom_002: ZeroDivisionError: by nothing")
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "error", "ok"]


def test_two_files_for_one_case_are_refused(pictures, score):
    data = pictures(3)
    shutil.copy(data / "images/phantom_001.png", data / "images/phantom_001.bmp")
    with pytest.raises((InputError, DatasetError), match="phantom_001"):
        score(data)


def test_a_missing_channel_is_that_cases_error(tmp_path, score, rows_of):
    for case in range(3):
        for channel in range(2):
            path = tmp_path / f"data/case{case}_{channel:04d}.png"
            path.parent.mkdir(exist_ok=True)
            grey = np.random.default_rng(case + 10 * channel).integers(0, 255, (24, 24), np.uint8)
            PillowImage.fromarray(grey).save(path)
    (tmp_path / "data/case1_0001.png").unlink()
    rows = rows_of(score(tmp_path / "data").index)
    assert [row["status"] for row in rows.values()] == ["ok", "error", "ok"]
    assert "1 channel files, expected 2" in rows["case1"]["message"]


def test_the_channel_that_is_looked_at(tmp_path, score, rows_of):
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for case in range(3):
        image = rng.normal(size=(2, 12, 12, 6)).astype(np.float32)
        write_nifti(tmp_path / f"data/case{case}.nii.gz", image, Geometry((12, 12, 6)))
    first, second = (rows_of(score(tmp_path / "data", f"{c}.parquet", channel=c).index) for c in (0, 1))
    assert first["case0"]["energy"] != second["case0"]["energy"]
    third = rows_of(score(tmp_path / "data", "2.parquet", channel=2).index)
    assert "2 channels, expected more than --channel 2" in third["case0"]["message"]


def test_copies_are_found_by_their_bytes(pictures, score, rows_of):
    data = pictures(4)
    shutil.copy(data / "images/phantom_000.png", data / "images/phantom_003.png")
    rows = rows_of(score(data).index)
    assert [row["duplicate_of"] for row in rows.values()] == ["", "", "", "phantom_000"]


def test_splits_choose_the_cases_and_the_reference(pictures, score, rows_of):
    data = pictures(10)
    rows = rows_of(score(data, split="test").index)
    assert list(rows) == ["phantom_000", "phantom_005"]
    assert {row["split"] for row in rows.values()} == {"test"}
    with pytest.raises(UnknownNameError, match="split called 'tests'"):
        score(data, split="tests")


def test_the_range_is_that_of_the_training_cases(pictures, score, rows_of):
    data = pictures(10)
    names = [f"phantom_{i:03d}" for i in range(10)]
    (data / "splits.json").write_text(
        f'{{"train": {names[:6]}, "calibration": [], "test": {names[6:]}}}'.replace("'", '"')
    )
    rows = rows_of(score(data).index)
    train = [rows[name]["auv"] for name in names[:6]]
    assert (min(train), max(train)) == (0, 1)
    assert [rows[name]["split"] for name in names] == ["train"] * 6 + ["test"] * 4


def test_conventions_and_aggregates_are_views_of_stored_rows(pictures, score, rows_of):
    data = pictures(5)
    first = score(data)
    energy = rows_of(first.index)
    second = score(data, convention="amplitude", range_method="percentile")
    amplitude = rows_of(second.index)
    assert (first.scored, second.scored) == (5, 0)
    assert all(amplitude[n]["energy"] == row["energy"] <= row["amplitude"] for n, row in energy.items())
    assert any(amplitude[n]["auv"] != row["auv"] for n, row in energy.items())
    with pytest.raises(UnknownNameError, match="class called 'liver'"):
        score(data, aggregate="liver")


def test_seconds_are_in_the_manifest_and_not_in_the_index(pictures, score):
    summary = score(pictures(3))
    manifest = (summary.index.parent / "index.parquet.parts/manifest.json").read_text(encoding="utf-8")
    assert '"phantom_001"' in manifest
    assert "seconds" not in INDEX_COLUMNS
    assert set(LABEL_COLUMNS) <= set(INDEX_COLUMNS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"maps": "logit"}, "did you mean 'logits'"),
        ({"engine": "spark"}, "Known: local, ray"),
        ({"workers": 0}, "--workers 0, expected at least 1"),
        ({"maps": "logits"}, "which has none"),
        ({"aggregate": " , "}, "expected sum, mean_present, min"),
        ({"extractor": "efficientnet"}, "efficientnet_lite0"),
    ],
)
def test_settings_that_are_not_allowed(pictures, score, settings, said):
    with pytest.raises(ConfigError, match=said):
        score(pictures(3), **settings)


def test_an_index_is_a_parquet_file(tmp_path):
    with pytest.raises(ConfigError, match=r"ending in \.parquet"):
        ScoreConfig(tmp_path, tmp_path / "index.csv")


def test_a_file_that_is_no_index_is_refused(tmp_path):
    (tmp_path / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match="not a readable Parquet file"):
        read_rows(tmp_path / "index.parquet")
    with pytest.raises(StorageError, match="run `sfumato difficulty score` first"):
        read_rows(tmp_path / "none.parquet")


def test_prototypes_need_labels_and_give_one_map_per_class(
    pictures, score, rows_of, tmp_path, tiny_segmenter
):
    segmenter = tiny_segmenter("softmax_2d")
    save_segmenter(tmp_path / "net", segmenter.module, segmenter.spec)
    data, settings = pictures(6), {"maps": "prototype", "extractor": f"segmenter:{tmp_path / 'net'}"}
    rows = rows_of(score(data, **settings).index)
    assert {tuple(row["classes"]) for row in rows.values()} == {("blob 1", "blob 2")}
    assert all(len(row["class_auv"]) == 2 and row["status"] == "ok" for row in rows.values())
    shutil.rmtree(data / "masks")
    with pytest.raises(DatasetError, match="no training case with a label"):
        score(data, "bare.parquet", **settings)


def test_logits_give_one_map_per_foreground_class(pictures, score, rows_of, tmp_path, tiny_segmenter):
    segmenter = tiny_segmenter("softmax_2d")
    save_segmenter(tmp_path / "net", segmenter.module, segmenter.spec)
    summary = score(pictures(4), maps="logits", extractor=f"segmenter:{tmp_path / 'net'}", aggregate="min")
    for row in rows_of(summary.index).values():
        assert tuple(row["classes"]) == segmenter.spec.classes[1:]
        assert row["energy"] == min(row["class_energy"])


def test_nothing_but_failures_is_an_index_too(tmp_path, score, rows_of):
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / f"{name}.png").write_bytes(b"no picture")
    summary = score(tmp_path / "data")
    assert summary.statuses == {"error": 2}
    assert all(np.isnan(row["difficulty"]) for row in rows_of(summary.index).values())
