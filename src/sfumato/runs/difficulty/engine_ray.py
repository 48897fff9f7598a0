"""Scoring by Ray Data: actors hold the extractor, take whole shards and write them; the table is the local engine's."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ...errors import MissingExtraError
from .cases import ScoredCase
from .config import ScoreConfig
from .reading import read_case
from .scorer import open_scorer
from .shards import write_shard
from .table import Row

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""Environment that must be set before Ray is imported: nothing is reported to anybody, and progress is ours."""


class ShardScorer:
    """An actor: the extractor is loaded once, shards come in and names of finished cases go out."""

    def __init__(self, config: ScoreConfig):
        self.config = config
        self.scorer = open_scorer(config)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        """Score the shards of a batch; each is on the disk when this returns."""
        done: dict[str, list[Any]] = {"rows": []}
        for number, text in zip(batch["number"], batch["cases"], strict=True):
            cases = [ScoredCase.from_plain(content) for content in json.loads(str(text))]
            rows = [self.scorer.row(c, lambda c=c: read_case(c, self.config.resample)) for c in cases]
            write_shard(self.config.work, int(number), rows)
            done["rows"].append(json.dumps([{k: row[k] for k in ("case", "status")} for row in rows]))
        return done


def score_shards(
    config: ScoreConfig, todo: Sequence[Sequence[ScoredCase]], first: int
) -> Iterator[list[Row]]:
    """As the local engine's, by `config.workers` actors on this machine or on the cluster of `RAY_ADDRESS`.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    ray = _ray()
    started = not ray.is_initialized()
    if started:
        # An address in the environment is a cluster that others keep; else one is started here.
        own = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": config.workers, "include_dashboard": False}
        ray.init(**own, log_to_driver=False, logging_level=logging.ERROR)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        shards = [
            {"number": number, "cases": json.dumps([case.to_plain() for case in shard])}
            for number, shard in enumerate(todo, start=first)
        ]
        scored = ray.data.from_items(shards, override_num_blocks=len(shards)).map_batches(
            ShardScorer,
            fn_constructor_args=(config,),
            batch_size=1,
            concurrency=config.workers,
            num_gpus=1 if config.device.startswith("cuda") else None,
        )
        for row in scored.iter_rows():
            yield json.loads(row["rows"])
    finally:
        if started:
            ray.shutdown()


def _ray() -> Any:
    os.environ.update(QUIET)
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "distributed", "--engine ray") from error
    return ray
