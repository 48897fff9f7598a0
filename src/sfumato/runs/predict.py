"""`sfumato predict`: images in, one finished folder per case out, and an index of what to look at first."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import SfumatoError, StorageError
from ..imaging import read_image
from ..interfaces import Method
from ..pipeline.case import PredictOptions, predict_image
from ..report.case import thumbnail, write_case_report
from ..report.index import CaseRow, Curves, write_index
from ..segmenters.pinned import sha256_of
from ..storage import load_method, read_json, read_record
from .files import InputCase, appearing, find_inputs, locked, write_text
from .fit import rule_of
from .manifest import Manifest, versions
from .outputs import case_content, write_maps

CASE_FILE = "case.json"
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
    """
    options = options or PredictOptions()
    cases = find_inputs(inputs)
    method, record = load_method(method_folder, allow_pickle), read_record(method_folder)
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
        done, kept, failures = _all_cases(run, cases, out, manifest, progress, say)
        rows = _write_overview(run, out, [*done, *kept], failures)
        manifest.failures = failures
        manifest.write(out)
    return PredictSummary(tuple(done), tuple(kept), tuple(failures), tuple(rows), out / "index.html")


def _to_device(method: Method, device: str) -> None:
    if device != "cpu":
        method.segmenter.to(device)  # type: ignore[attr-defined]
        method.estimator.to(device)  # type: ignore[attr-defined]


def _all_cases(run: _Run, cases, out: Path, manifest: Manifest, progress, say):
    done: list[str] = []
    kept: list[str] = []
    failures: list[str] = []
    for case in cases:
        progress(case.name, "start")
        try:
            hashes = {path.name: _hash(path, case.name) for path in case.images}
            manifest.inputs[case.name] = hashes
            if _is_finished(out / case.name, run.identity, hashes):
                kept.append(case.name)
                progress(case.name, "kept")
                continue
            manifest.seconds[case.name] = _one_case(run, case, hashes, out, say)
            done.append(case.name)
            progress(case.name, "done")
        except SfumatoError as error:
            failures.append(str(error))
            progress(case.name, "failed")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EDQUOT):
                raise
            raise StorageError(
                f"{case.name}: could not be written to {out} ({error.strerror}); free space and run the same command "
                "again, finished cases are kept."
            ) from error
    return done, kept, failures


def _hash(path: Path, name: str) -> str:
    try:
        return sha256_of(path)
    except StorageError as error:
        raise SfumatoError(f"{name}: {error} Check the path.") from error


def _is_finished(folder: Path, identity: Mapping[str, Any], hashes: Mapping[str, str]) -> bool:
    try:
        content = json.loads((folder / CASE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return content.get("run") == json.loads(json.dumps(identity)) and content.get("inputs") == dict(hashes)


def _one_case(run: _Run, case: InputCase, hashes: Mapping[str, str], out: Path, say) -> float:
    image = read_image(case.images, case.name, run.resample)
    result = predict_image(run.method, image, rule_of(run.record), run.options, say)
    spec = run.method.segmenter.spec  # type: ignore[attr-defined]
    with appearing(out / case.name) as folder:
        files = write_maps(folder, result, spec.label_values, run.options.float32)
        (folder / THUMBNAIL).write_bytes(thumbnail(result))
        write_case_report(folder / "report.html", result, _facts(run))
        content = case_content(result, spec.label_values, files) | {
            "run": run.identity,
            "inputs": dict(hashes),
        }
        write_text(folder / CASE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
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
    for name in sorted(names):
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
    write_text(out / "cases.csv", _csv(csv_rows))
    return csv_rows


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return buffer.getvalue()
