"""`sfumato compare`: several methods on one frozen segmenter, fitted alike, judged on the same cases."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...datasets import Case, Dataset, Splits, open_dataset
from ...datasets.corruption import corrupt_image
from ...datasets.splits import PATIENT_PATTERN
from ...errors import DatasetError, InputError, SfumatoError
from ...imaging import Image, read_image
from ...pipeline.case import PredictOptions, plan_case, predict_methods
from ...pipeline.prepare import prepare_image
from ...pipeline.windows import plan_windows
from ...report.comparison import write_comparison
from ...segmenters.pinned import sha256_of, weights_sha256
from ...segmenters.wrap import FrozenSegmenter
from ...storage import load_segmenter
from ..assess import read_truth
from ..files import locked, write_text
from ..fit import FitOptions, recorded_splits
from ..judge import HISTOGRAM_BITS, Judgement, Truth, judge
from ..manifest import Manifest, versions
from .contenders import Contender, FitPlan, make_contenders, move_to_device
from .cost import Cost, CostMeter
from .results import CLEAN, gather_results
from .store import load_judgement, save_judgement
from .tables import as_csv, as_markdown

STATE_FORMAT = 1
"""Of the stored judgements; another one makes them void."""


@dataclass(frozen=True)
class CompareConfig:
    """What to compare, on what.

    Args:
        segmenter: folder of a trained segmenter, or of anything `load_segmenter` reads.
        data: data set folder.
        out: gets `methods/`, `cases/`, `results.json`, `results.csv`, `results.md`, `index.html`, `manifest.json`.
        methods: names; softmax is always among them.
        fitted: folders of methods fitted before on the same segmenter.
        settings: per method, fields of its settings.
        members: folders of further networks, for deep_ensemble.
        split: which cases judge.
        splits: of the data set; those the segmenter was trained with, if they are known.
        corruptions: (name, severity) pairs, beside the images as they are.
        limit: judge only the first cases of the split; 0 takes all.
        max_ram: GiB a case may take; methods share a pass as far as that allows. None does not limit.
        resamples: of the bootstrap over patients.
        fit: how to fit.
        patient_pattern: see `sfumato.datasets`.
        allow_pickle: see `sfumato.storage.load_method`.
    """

    segmenter: Path
    data: Path
    out: Path
    methods: Sequence[str]
    fitted: Sequence[Path] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    members: Sequence[Path] = ()
    split: str = "test"
    splits: Splits | None = None
    corruptions: Sequence[tuple[str, int]] = ()
    limit: int = 0
    max_ram: float | None = None
    resamples: int = 1000
    fit: FitOptions = field(default_factory=FitOptions)
    patient_pattern: str = PATIENT_PATTERN
    allow_pickle: bool = False


def compare_methods(
    config: CompareConfig,
    progress: Callable[[str, str], None] = lambda name, state: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fit what needs fitting on the calibration split, judge everything on the test split, write the tables.

    A killed run is finished by the same call: fitted methods and judged cases are kept, and the tables come out the
    same, the measured times aside.

    Returns:
        What `results.json` holds.

    Raises:
        InputError: not one case could be judged.
    """
    segmenter = load_segmenter(config.segmenter, allow_pickle=config.allow_pickle)
    dataset = open_dataset(config.data, config.patient_pattern)
    splits = config.splits or recorded_splits(config.segmenter, dataset) or dataset.splits()
    with locked(config.out):
        members = [load_segmenter(path, allow_pickle=config.allow_pickle) for path in config.members]
        plan = FitPlan(
            config.methods,
            config.fitted,
            config.settings,
            members,
            config.fit,
            config.patient_pattern,
            config.allow_pickle,
        )
        contenders = make_contenders(plan, segmenter, config.data, config.out / "methods", splits, say)
        move_to_device(contenders, segmenter, config.fit.device)
        run = _Run(config, segmenter, contenders, dataset, splits)
        judged, problems = run.all_cases(progress)
        head = {
            "segmenter": config.segmenter.name,
            "segmenter_fingerprint": weights_sha256(segmenter.module),
            "data": config.data.name,
            "split": config.split,
            "problems": [*dataset.problems, *problems],
        }
        results = gather_results(
            head, contenders, segmenter.spec.classes, judged, config.fit.seed, config.resamples
        )
        _write(config, results)
    return results


@dataclass(frozen=True)
class _Run:
    config: CompareConfig
    segmenter: FrozenSegmenter
    contenders: Sequence[Contender]
    dataset: Dataset
    splits: Splits

    def conditions(self) -> Iterator[tuple[str, tuple[str, int] | None]]:
        """Clean first, then every corruption at every severity."""
        yield CLEAN, None
        for name, severity in self.config.corruptions:
            yield f"{name}-{severity}", (name, severity)

    def all_cases(
        self, progress: Callable[[str, str], None]
    ) -> tuple[dict[str, dict[str, list[Judgement]]], list[str]]:
        """Condition -> method -> judgements in the order of the split, and one sentence per case left out."""
        names = self.splits[self.config.split][: self.config.limit or None]
        if not names:
            raise DatasetError(f"The {self.config.split} split is empty.")
        judged: dict[str, dict[str, list[Judgement]]] = {}
        problems: list[str] = []
        for condition, corruption in self.conditions():
            found: dict[str, list[Judgement]] = {c.label: [] for c in self.contenders}
            for name in names:
                shown = name if corruption is None else f"{name} {condition}"
                try:
                    one, state = self.case(self.dataset.cases[name], condition, corruption)
                    for label, judgement in one.items():
                        found[label].append(judgement)
                except SfumatoError as error:
                    problems += [str(error)] if str(error) not in problems else []
                    state = "failed"
                progress(shown, state)
            judged[condition] = found
        if not judged[CLEAN][self.contenders[0].label]:
            raise InputError("No case could be judged." + (f" The first: {problems[0]}" if problems else ""))
        return judged, problems

    def case(
        self, case: Case, condition: str, corruption: tuple[str, int] | None
    ) -> tuple[dict[str, Judgement], str]:
        """All methods on one case: kept where they are stored, else computed in as few passes as memory allows."""
        if case.label is None:
            raise InputError(f"{case.name}: no label, expected one to judge by.")
        hashes = [sha256_of(path) for path in (*case.images, case.label, *case.readers)]
        identities = {c.label: self._identity(c, hashes) for c in self.contenders}
        paths = {
            c.label: self.config.out / "cases" / condition / c.label / f"{case.name}.npz"
            for c in self.contenders
        }
        found = {label: load_judgement(path, identities[label]) for label, path in paths.items()}
        missing = [c for c in self.contenders if found[c.label] is None]
        if missing:
            fit = self.config.fit
            image = read_image(case.images, case.name, fit.resample)
            truth = read_truth(case, image, self.segmenter.spec, fit.instances, fit.resample)
            if corruption is not None:
                image = corrupt_image(image, *corruption, seed=fit.seed)
            for contender, judgement in self._compute(missing, image, truth):
                save_judgement(paths[contender.label], judgement, identities[contender.label])
                found[contender.label] = judgement
        return {label: j for label, j in found.items() if j is not None}, "done" if missing else "kept"

    def _identity(self, contender: Contender, hashes: Sequence[str]) -> dict[str, Any]:
        fit = self.config.fit
        return {
            "format": STATE_FORMAT,
            "bits": HISTOGRAM_BITS,
            "method": contender.identity,
            "files": list(hashes),
            "options": [fit.instances, fit.resample, fit.seed],
            "version": versions().get("sfumato", ""),
        }

    def _compute(
        self, missing: Sequence[Contender], image: Image, truth: Truth
    ) -> Iterator[tuple[Contender, Judgement]]:
        options = PredictOptions(float32=True)
        for group in self._groups(missing, image, options):
            meter = CostMeter()
            results = predict_methods([c.method for c in group], image, options=options, watch=meter)
            shared = meter.parts["segmenter"]
            for i, (contender, result) in enumerate(zip(group, results, strict=True)):
                own = meter.parts.get(str(i), Cost())
                yield contender, judge(contender.method, result, truth, _cost(shared, own))

    def _groups(
        self, missing: Sequence[Contender], image: Image, options: PredictOptions
    ) -> Iterator[Sequence[Contender]]:
        limit, spec = self.config.max_ram, self.segmenter.spec
        if limit is not None and len(missing) > 1:
            grid = prepare_image(image, spec).array.shape[1:]
            windows = plan_windows(grid, spec.window, spec.divisor, options.overlap)
            if plan_case([c.method for c in missing], windows, options).total > limit * 2**30:
                half = len(missing) // 2
                yield from self._groups(missing[:half], image, options)
                yield from self._groups(missing[half:], image, options)
                return
        yield missing


def _cost(shared: Cost, own: Cost) -> dict[str, Any]:
    return {"segmenter": asdict(shared), "method": asdict(own)}


def _write(config: CompareConfig, results: dict[str, Any]) -> None:
    out = config.out
    write_text(out / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    write_text(out / "results.csv", as_csv(results))
    write_text(out / "results.md", as_markdown(results))
    write_comparison(out / "index.html", results)
    settings = {k: str(v) for k, v in asdict(config).items() if k not in ("splits", "out")}
    manifest = Manifest("compare", settings, config.fit.seed)
    manifest.failures = results["problems"]
    manifest.write(out)
