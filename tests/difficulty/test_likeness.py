"""Odd and damaged images stand out, also when only copies of the others taught what damage is."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage
from sklearn.metrics import roc_auc_score

from sfumato.datasets.corruption import CORRUPTIONS, corrupt_image
from sfumato.imaging import read_image, write_label_picture
from sfumato.runs.difficulty.cases import ScoredCase, choose_copied
from sfumato.runs.difficulty.shards import read_rows


def damage(data, names, kind):
    for name in names:
        path = data / "images" / f"{name}.png"
        image = corrupt_image(read_image(path), kind, 3, seed=5)
        write_label_picture(path, np.clip(image.array[0], 0, 255).astype(np.uint8))


def test_damaged_images_rank_high(pictures, score, rows_of):
    data = pictures(40)
    bad = ["phantom_003", "phantom_017", "phantom_029", "phantom_038"]
    damage(data, bad, "noise")
    rows = rows_of(score(data, copies=20).index)
    truth = [name in bad for name in rows]
    assert roc_auc_score(truth, [row["image_score"] for row in rows.values()]) > 0.9
    assert roc_auc_score(truth, [row["damage"] for row in rows.values()]) > 0.75


def test_without_copies_nothing_is_said_of_damage(pictures, score, rows_of):
    rows = rows_of(score(pictures(6)).index)
    assert all(np.isnan(row["damage"]) and row["damage_kind"] == "" for row in rows.values())
    assert all(np.isfinite(row["image_score"]) for row in rows.values())


def test_as_many_training_cases_are_copied_as_are_asked_for(pictures, score):
    data = pictures(9)
    score(data, copies=4)
    rows = [row for path in (data.parent / "index.parquet.parts").glob("part-*") for row in read_rows(path)]
    copied = [row for row in rows if row["copy_kinds"]]
    assert len(copied) == 4
    assert all(row["copy_kinds"] == list(CORRUPTIONS) for row in copied)
    assert all(len(row["copy_descriptors"]) == len(CORRUPTIONS) for row in copied)


def test_the_choice_of_copied_cases_hangs_on_names_alone():
    cases = [ScoredCase(f"case{i}", f"case{i}", (), split="train" if i % 2 else "test") for i in range(20)]
    chosen = {c.name for c in choose_copied(cases, 5) if c.copied}
    assert chosen == {c.name for c in choose_copied(cases[::-1], 5) if c.copied}
    assert len(chosen) == 5
    assert {c.split for c in choose_copied(cases, 5) if c.copied} == {"train"}
    assert chosen < {c.name for c in choose_copied(cases, 7) if c.copied}


def test_damage_against_a_reference_does_not_depend_on_the_others(pictures, score, rows_of):
    reference = score(pictures(12, "others", seed=3), "reference.parquet", copies=6).reference
    data = pictures(6)
    together = rows_of(score(data, copies=0, reference=reference).index)
    (data / "images/phantom_004.png").unlink()
    (data / "masks/phantom_004.png").unlink()
    fewer = rows_of(score(data, "fewer.parquet", copies=0, reference=reference).index)
    for name, row in fewer.items():
        assert row["damage_kind"] == together[name]["damage_kind"] in CORRUPTIONS
        for column in ("damage", "atypicality", "neighbour_distance", "difficulty"):
            assert row[column] == pytest.approx(together[name][column], rel=1e-12), (name, column)


def test_a_foreign_image_is_far_from_its_neighbours(pictures, score, rows_of):
    data = pictures(15)
    checks = (np.indices((24, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    PillowImage.fromarray(checks).save(data / "images/phantom_007.png")
    rows = rows_of(score(data).index)
    for column in ("neighbour_distance", "atypicality", "image_score"):
        assert max(rows, key=lambda name: rows[name][column]) == "phantom_007", column
