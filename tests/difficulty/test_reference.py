"""Measured against a stored reference, a case's numbers do not depend on the cases beside it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from sfumato.errors import ConfigError, StorageError
from sfumato.runs.difficulty.reference import Copies, Reference, fit_ranges, read_reference


def test_a_case_alone_has_the_values_it_has_among_others(pictures, score, rows_of, differing):
    data, others = pictures(8), pictures(6, "others", seed=9)
    reference = score(others, "reference.parquet").reference
    together = rows_of(score(data, reference=reference).index)
    alone = data.parent / "alone"
    for part in ("images", "masks"):
        (alone / part).mkdir(parents=True)
        shutil.copy(data / part / "phantom_003.png", alone / part)
    row = rows_of(score(alone, "alone.parquet", reference=reference).index)["phantom_003"]
    assert differing(row, together["phantom_003"]) == []
    assert all(np.isfinite(row[name]) for name in ("auv", "neighbour_distance", "image_score", "difficulty"))


def test_the_reference_of_a_data_set_gives_it_its_own_values_again(pictures, score, rows_of, differing):
    data = pictures(8)
    first = score(data)
    again = score(data, "again.parquet", reference=first.reference)
    before, after = rows_of(first.index), rows_of(again.index)
    assert all(differing(row, after[name]) == [] for name, row in before.items())
    assert again.reference.read_bytes() == first.reference.read_bytes()


def test_a_copy_is_not_its_own_neighbour(pictures, score, rows_of):
    data = pictures(6)
    first = score(data)
    alone = data.parent / "alone"
    (alone / "images").mkdir(parents=True)
    shutil.copy(data / "images/phantom_002.png", alone / "images/renamed.png")
    row = rows_of(score(alone, "alone.parquet", reference=first.reference).index)["renamed"]
    assert row["neighbour_distance"] == rows_of(first.index)["phantom_002"]["neighbour_distance"] > 0


def test_a_reference_of_other_settings_is_refused(pictures, score):
    data = pictures(5)
    reference = score(data).reference
    with pytest.raises(ConfigError, match="maps is 'energy' there and 'principal' here"):
        score(data, "other.parquet", reference=reference, maps="principal")


def test_a_damaged_reference_is_refused(tmp_path, pictures, score):
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(StorageError, match="not a readable reference"):
        score(pictures(3), reference=tmp_path / "x.safetensors")


def test_a_reference_is_read_as_it_was_written(tmp_path):
    ranges = fit_ranges(["D", "D", "H"], np.array([0.5, 0.25, 0.9]), [{"liver": 0.5}, {"liver": 0.1}, {}])
    reference = Reference(
        {"maps": "energy"},
        ranges,
        ("ab", "cd"),
        (np.eye(2, 3, dtype=np.float32), np.ones((2, 1))),
        {"auv": np.array([0.5, np.nan])},
        Copies(("noise",), np.array([1]), (np.zeros((1, 3), np.float32), np.full((1, 1), 0.1))),
        {"names": ["liver"], "sums": [[0.1]], "weights": [3.0]},
    )
    reference.write(tmp_path / "r.safetensors")
    read = read_reference(tmp_path / "r.safetensors")
    assert read.ranges == dict(ranges)
    assert set(ranges) == {"D", "H", "D/liver"}
    for mine, other in zip(
        (*read.blocks, *read.copies.blocks, read.copies.owners),
        (*reference.blocks, *reference.copies.blocks, reference.copies.owners),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, other)
        assert mine.dtype == other.dtype
    assert read.copies.kinds == ("noise",)
    np.testing.assert_array_equal(read.columns["auv"], [0.5, np.nan])
    assert (read.identity, read.hashes, read.prototypes) == (
        reference.identity,
        reference.hashes,
        reference.prototypes,
    )
