"""`sfumato difficulty score`: a data set in, an index with one row per case out; killed and resumed at will."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...segmenters.pinned import sha256_of
from ..files import locked
from ..manifest import Manifest
from .case import CaseScorer
from .cases import ScoredCase, choose_copied, find_cases
from .config import ScoreConfig, parse_aggregate
from .engine_local import score_shards as score_locally
from .engine_ray import score_shards as score_with_ray
from .finish import View, finish
from .gallery import make_gallery
from .prototypes import digest, prepare_prototypes
from .reference import Reference, read_reference
from .scorer import open_extractor, open_scorer
from .shards import ShardFolder, write_parquet
from .table import ERROR, OK, Row, index_schema


@dataclass(frozen=True)
class ScoreSummary:
    """What a run did.

    Args:
        index: the Parquet file.
        reference: written beside it.
        scored: cases computed now.
        kept: cases found finished from an earlier run.
        statuses: status -> number of cases in the index.
        failures: one sentence per case that could not be scored.
        label_problems: one sentence per label that could not be used.
        unjudged: labelled cases that every segmenter was trained on, so that nothing is said of their labels.
        gallery: the page, where one was written.
    """

    index: Path
    reference: Path
    scored: int
    kept: int
    statuses: Mapping[str, int]
    failures: tuple[str, ...]
    label_problems: tuple[str, ...]
    unjudged: int
    gallery: Path | None = None


def score_dataset(
    config: ScoreConfig,
    gallery: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda line: None,
) -> ScoreSummary:
    """Score every case; one that fails is a row that says so, and the others go on.

    Args:
        config: what to score, with what, and how.
        gallery: folder for the page of the hardest and easiest cases; None writes none.
        progress: told, after each shard, how many cases are done and how many there are.
        say: receives lines for people.

    Raises:
        ConfigError: settings that do not fit each other, or a work folder of other settings.
        DatasetError: no cases, or two files for one.
        StorageError: a reference or segmenter that cannot be read, or a disk that cannot be written.
    """
    config = replace(config, data=config.data.resolve(), out=config.out.resolve())
    parse_aggregate(config.aggregate)
    cases = find_cases(config.data, config.split, config.splits_file, config.patient_pattern)
    cases = choose_copied(cases, config.copies)
    reference = read_reference(config.reference) if config.reference else None
    with locked(config.work):
        manifest = Manifest("difficulty score", _described(config))
        run = _prepare(config, reference, say)
        scored = _score_missing(run, cases, progress, say)
        raw = _rows_of(run.folder, cases)
        view = View(config.convention, config.aggregate, config.range_method)
        rows, used = finish(raw, view, reference, run.prototypes)
        write_parquet(config.out, rows, index_schema())
        used.write(config.written_reference)
        page = make_gallery(config.out, gallery) if gallery is not None else None
        summary = _summary(config, rows, scored, page)
        _write_manifest(manifest, config, raw, summary)
    return summary


@dataclass(frozen=True)
class _Run:
    config: ScoreConfig
    scorer: CaseScorer
    folder: ShardFolder
    prototypes: Mapping[str, Any]


def _prepare(config: ScoreConfig, reference: Reference | None, say: Callable[[str], None]) -> _Run:
    extractor = open_extractor(config)
    stored = reference.prototypes if reference else {}
    prototypes = prepare_prototypes(config, extractor, stored, say)
    scorer = open_scorer(config, extractor)
    members = scorer.out_of_fold.identity() if scorer.out_of_fold else []
    settings = config.settings(extractor.card.key, members, digest(prototypes))
    return _Run(config, scorer, ShardFolder(config.work, settings), prototypes)


def _score_missing(
    run: _Run, cases: Sequence[ScoredCase], progress: Callable[[int, int], None], say: Callable[[str], None]
) -> int:
    """Score the cases that no shard holds; how many they were."""
    finished, size = run.folder.finished(run.config.retry), run.config.shard_size
    todo = [case for case in cases if case.name not in finished]
    done = len(cases) - len(todo)
    if done:
        say(f"{done} of {len(cases)} cases are done, {len(todo)} to go.")
    shards, first = [todo[i : i + size] for i in range(0, len(todo), size)], run.folder.next_number
    if run.config.engine == "ray" and shards:
        made = score_with_ray(run.config, shards, first)
    else:
        made = score_locally(run.config, run.scorer, shards, first)
    for rows in made:
        done += len(rows)
        progress(done, len(cases))
    return len(todo)


def _rows_of(folder: ShardFolder, cases: Sequence[ScoredCase]) -> dict[str, Row]:
    """Stored rows of the cases asked for; patient and split as they are known today."""
    stored = folder.rows()
    return {c.name: stored[c.name] | {"patient": c.patient, "split": c.split} for c in cases}


def _described(config: ScoreConfig) -> dict[str, Any]:
    return {k: v if isinstance(v, int | bool) else str(v) for k, v in vars(config).items()}


def _summary(config: ScoreConfig, rows: Sequence[Row], scored: int, page: Path | None) -> ScoreSummary:
    unjudged = sum(
        bool(config.segmenters) and row["label_status"] in (OK, "empty") and row["segmenters"] == 0
        for row in rows
    )
    return ScoreSummary(
        config.out,
        config.written_reference,
        scored,
        len(rows) - scored,
        dict(sorted(Counter(row["status"] for row in rows).items())),
        tuple(row["message"] for row in rows if row["status"] == ERROR),
        tuple(row["label_message"] for row in rows if row["label_status"] == ERROR),
        unjudged,
        page,
    )


def _write_manifest(
    manifest: Manifest, config: ScoreConfig, raw: Mapping[str, Row], summary: ScoreSummary
) -> None:
    manifest.seconds = {name: row["seconds"] for name, row in sorted(raw.items())}
    manifest.failures = [*summary.failures, *summary.label_problems]
    manifest.notes = {
        "statuses": dict(summary.statuses),
        "scored": summary.scored,
        "index_sha256": sha256_of(config.out),
    }
    manifest.write(config.work)
