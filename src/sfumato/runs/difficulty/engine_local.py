"""Scoring in this process: a few threads read ahead, the network runs in one place."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from .case import CaseScorer
from .cases import ScoredCase
from .config import ScoreConfig
from .reading import ReadCase, read_case
from .shards import write_shard
from .table import Row

AHEAD = 2
"""Cases per reading thread that may wait in memory."""


def score_shards(
    config: ScoreConfig, scorer: CaseScorer, todo: Sequence[Sequence[ScoredCase]], first: int
) -> Iterator[list[Row]]:
    """Score the shards one after the other; each is on the disk when it is yielded.

    Args:
        config: of the run.
        scorer: made for it.
        todo: cases of each shard.
        first: number of the first shard.
    """
    cases = (case for shard in todo for case in shard)
    with ThreadPoolExecutor(config.workers, "read") as pool:
        reads = _read_ahead(pool, cases, config)
        for number, shard in enumerate(todo, start=first):
            rows = [scorer.row(case, read.result) for case, read in islice(reads, len(shard))]
            write_shard(config.work, number, rows)
            yield rows


def _read_ahead(
    pool: ThreadPoolExecutor, cases: Iterable[ScoredCase], config: ScoreConfig
) -> Iterator[tuple[ScoredCase, Future[ReadCase]]]:
    """Cases in their order, with what was read of them; memory holds a few."""
    waiting: deque[tuple[ScoredCase, Future[ReadCase]]] = deque()
    for case in cases:
        waiting.append((case, pool.submit(read_case, case, config.resample)))
        if len(waiting) > AHEAD * config.workers:
            yield waiting.popleft()
    yield from waiting
