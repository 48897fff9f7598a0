"""`sfumato predict`: images in, one finished folder per case out, and an index of what to look at first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..imaging import read_image
from ..interfaces import Method
from ..pipeline.case import PredictOptions, predict_image
from ..report.case import thumbnail, write_case_report
from ..report.index import CaseRow, Curves, write_index
from ..segmenters.pinned import sha256_of
from ..storage import load_method, read_json, read_record
from .cases import CASE_FILE, finish_cases, write_case
from .files import InputCase, appearing, csv_text, find_inputs, locked, write_text
from .fit import rule_of
from .manifest import Manifest, versions
from .outputs import case_content, write_maps
from .text.model import refuse_sentences

THUMBNAIL = "thumbnail.png"


@dataclass(frozen=True)
class PredictSummary:
    """What a run did.

    Args:
        done: cases computed now.
        kept: cases found finished from an earlier run.
        failures: one sentence per case that could not be predicted.
        rows: per case, as in `cases.csv`.
        index: the page to open.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    failures: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]
    index: Path


@dataclass(frozen=True)
class _Run:
    method: Method
    folder: Path
    record: dict[str, Any]
    options: PredictOptions
    resample: bool
    identity: dict[str, Any]


def predict_files(
    method_folder: Path,
    inputs: Sequence[Path],
    out: Path,
    options: PredictOptions | None = None,
    resample: bool = False,
    device: str = "cpu",
    progress: Callable[[str, str], None] = lambda name, state: None,
    say: Callable[[str], None] = lambda line: None,
    allow_pickle: bool = False,
) -> PredictSummary:
    """Predict every image; a case that fails is reported and the others go on.

    A killed run is finished by the same call: finished cases with the same inputs, method and options are kept.

    Args:
        method_folder: written by `fit`, or a shipped pair.
        inputs: image files, or folders of them.
        out: gets a folder per case, `index.html`, `cases.csv` and `manifest.json`.
        options: see `PredictOptions`.
        resample: accept sheared or contradictory headers.
        device: `cpu` or `cuda`.
        progress: told each case's name and `start`, `done`, `kept` or `failed`.
        say: receives lines for people, the memory plan among them.
        allow_pickle: load a method whose network is a program, see `sfumato.storage.load_method`.

    Raises:
        ConfigError: a method whose network reads sentences, see `runs.text.predict`.
    """
    options = options or PredictOptions()
    cases = find_inputs(inputs)
    method, record = load_method(method_folder, allow_pickle), read_record(method_folder)
    instead = f"use `sfumato predict text_guided IMAGE --model {method_folder} --text SENTENCE`"
    refuse_sentences(method.segmenter, f"predict {method_folder}", instead)
    _to_device(method, device)
    identity = {
        "method": method.name,
        "method_sha256": sha256_of(method_folder / "estimator.safetensors")
        + sha256_of(method_folder / "method.json"),
        "options": {**asdict(options), "max_ram": None, "resample": resample, "device": device},
        "version": versions().get("sfumato", ""),
    }
    run = _Run(method, method_folder, record, options, resample, identity)
    with locked(out):
        manifest = Manifest("predict", {**identity, "method_folder": method_folder.name})
        found = finish_cases(
            cases,
            out,
            manifest,
            lambda case: {"run": run.identity},
            lambda case, identity: _one_case(run, case, identity, out, say),
            progress,
        )
        rows = _write_overview(run, out, found.names, found.failures)
        manifest.failures = list(found.failures)
        manifest.write(out)
    return PredictSummary(found.done, found.kept, found.failures, tuple(rows), out / "index.html")


def _to_device(method: Method, device: str) -> None:
    if device != "cpu":
        method.segmenter.to(device)  # type: ignore[attr-defined]
        method.estimator.to(device)  # type: ignore[attr-defined]


def _one_case(run: _Run, case: InputCase, identity: Mapping[str, Any], out: Path, say) -> float:
    image = read_image(case.images, case.name, run.resample)
    result = predict_image(run.method, image, rule_of(run.record), run.options, say)
    spec = run.method.segmenter.spec  # type: ignore[attr-defined]
    with appearing(out / case.name) as folder:
        files = write_maps(folder, result, spec.label_values, run.options.float32)
        (folder / THUMBNAIL).write_bytes(thumbnail(result))
        write_case_report(folder / "report.html", result, _facts(run))
        write_case(folder, case_content(result, spec.label_values, files), identity)
    return result.seconds


def _facts(run: _Run) -> dict[str, str]:
    return {
        "method": run.method.spec.title,
        "fitted method": run.folder.name,
        "sfumato": run.identity["version"],
        "calibrated on": f"{len(run.record.get('calibrated_on', []))} cases",
    }


def _write_overview(
    run: _Run, out: Path, names: Sequence[str], failures: Sequence[str]
) -> list[dict[str, Any]]:
    rows, csv_rows = [], []
    for name in names:
        content = read_json(out / name / CASE_FILE)
        decision = content["decision"] or {"verdict": "", "score": None, "threshold": None, "reason": ""}
        image = (out / name / THUMBNAIL).read_bytes()
        rows.append(CaseRow.from_case(name, content, image, f"{name}/report.html"))
        volumes = {f"ml {k}": v["ml"] for k, v in content["volumes"].items()}
        scores = {f"score {k}": v for k, v in content["scores"].items()}
        csv_rows.append(
            {"case": name, "verdict": decision["verdict"], **scores, **volumes, "reason": decision["reason"]}
        )
    order = {"review": 0, "": 1, "accept": 2}
    ranks = f"score {run.method.spec.ranks_by.value}"
    csv_rows.sort(key=lambda r: (order[r["verdict"]], -r.get(ranks, 0.0), r["case"]))
    curves = Curves.from_json(run.record["curves"]) if run.record.get("curves") else None
    write_index(out / "index.html", f"sfumato: {run.folder.name}", rows, curves, _facts(run), failures)
    write_text(out / "cases.csv", csv_text(csv_rows))
    return csv_rows
