"""Small data sets on disk, and a short way to score them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sfumato.datasets.synthetic import make_phantoms, write_phantoms
from sfumato.runs.difficulty.config import ScoreConfig
from sfumato.runs.difficulty.gallery import read_index
from sfumato.runs.difficulty.score import ScoreSummary, score_dataset


@pytest.fixture
def pictures(tmp_path) -> Callable[..., Path]:
    """`pictures(count, name="data", seed=0)` writes labelled pictures of phantoms and gives their folder."""

    def make(count: int = 8, name: str = "data", seed: int = 0, dims: int = 2) -> Path:
        folder = tmp_path / name
        write_phantoms(folder, make_phantoms(count, spatial_dims=dims, seed=seed, classes=3))
        return folder

    return make


@pytest.fixture
def score(tmp_path) -> Callable[..., ScoreSummary]:
    """`score(data, out="index.parquet", **settings)` scores by the extractor that needs no weights."""

    def run(data: Path, out: str = "index.parquet", **settings: Any) -> ScoreSummary:
        given = {
            "extractor": "pixels",
            "workers": 1,
            "thumbnails": False,
            "shard_size": 3,
            "copies": 0,
        } | settings
        return score_dataset(ScoreConfig(data, tmp_path / out, **given))

    return run


@pytest.fixture
def rows_of() -> Callable[[Path], dict[str, dict[str, Any]]]:
    """`rows_of(index)` gives its rows by case."""
    return lambda index: {row["case"]: row for row in read_index(index)}


def same(first: Any, second: Any) -> bool:
    """Equality in which NaN equals NaN."""
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first):
        return math.isnan(second)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(same(a, b) for a, b in zip(first, second, strict=True))
    return first == second


@pytest.fixture
def differing() -> Callable[[dict[str, Any], dict[str, Any]], list[str]]:
    """`differing(row, other)` gives the columns that differ."""
    return lambda row, other: [name for name in row if not same(row[name], other[name])]
