"""`sfumato predict text_guided`: images and sentences in, one finished folder per image out."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError, SfumatoError, StorageError
from ...imaging import read_image
from ...interfaces import Method
from ...pipeline.case import PredictOptions
from ...pipeline.text_answer import TextAnswer, TextOptions, answer_text
from ...report.case import thumbnail, write_case_report
from ...report.index import CaseRow, write_index
from ...report.text import DETAILS, write_text_report
from ...segmenters.pinned import sha256_of
from ...storage import ESTIMATOR_FILE, METHOD_FILE, SEGMENTER_FILE, read_json
from ..files import InputCase, appearing, find_inputs, locked, write_text
from ..fit import rule_of
from ..manifest import Manifest, versions
from ..outputs import case_content
from .model import UNCALIBRATED, open_text_model
from .outputs import text_content, write_answer
from .sentences import read_sentences

CASE_FILE, PAGE, THUMBNAIL = "case.json", "report.html", "thumbnail.png"


@dataclass(frozen=True)
class TextPredictOptions:
    """How images are segmented.

    Args:
        variants: further sentences to try.
        sides: whose left a sentence means on pictures, `image` or `patient`.
        words: leave each word out once, on pictures.
        resample: accept sheared or contradictory headers.
        device: `cpu` or `cuda`.
        predict: how windows are run.
    """

    variants: tuple[str, ...] = ()
    sides: str = "image"
    words: bool = True
    resample: bool = False
    device: str = "cpu"
    predict: PredictOptions = field(default_factory=PredictOptions)


@dataclass(frozen=True)
class TextPredictSummary:
    """What a run did.

    Args:
        done: cases computed now.
        kept: cases found finished from an earlier run.
        failures: one sentence per case that could not be predicted.
        cases: of all finished cases, name -> what their `case.json` says.
        index: the page to open.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    failures: tuple[str, ...]
    cases: Mapping[str, Mapping[str, Any]]
    index: Path


def predict_texts(
    model: Path,
    inputs: Sequence[Path],
    texts: Mapping[str | None, str],
    out: Path,
    options: TextPredictOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
    say: Callable[[str], None] = lambda line: None,
) -> TextPredictSummary:
    """Segment images by sentences; a case that fails is reported and the others go on.

    A killed run is finished by the same call: finished cases with the same inputs, sentence, model and options are
    kept.

    Args:
        model: folder, see `open_text_model`.
        inputs: image files, or folders of them.
        texts: sentence by case; under None that of the only image. Cases that are not in it are segmented without.
        out: gets a folder per case, `index.html` and `manifest.json`.
        options: see `TextPredictOptions`.
        note: told each case's name and `start`, `done`, `kept` or `failed`.
        say: receives lines for people.

    Raises:
        InputError: nothing to read, one sentence for several images, or sentences of images that are not there.
        StorageError: no such model, the folder cannot be written, or the disk is full.
    """
    options = options or TextPredictOptions()
    cases = find_inputs(inputs)
    _check_texts(cases, texts)
    method, record = open_text_model(model)
    if not record:
        say(UNCALIBRATED)
    if options.device != "cpu":
        method.segmenter.to(options.device)  # type: ignore[attr-defined]
        method.estimator.to(options.device)  # type: ignore[attr-defined]
    tried = TextOptions(read_sentences(model), options.variants, options.sides, options.words)
    run = _Run(method, record, model, out, options, tried)
    with locked(out):
        manifest = Manifest("predict text_guided", run.identity())
        done, kept, failures = _all_cases(run, cases, texts, manifest, note)
        found = _write_index(run, sorted([*done, *kept]), failures)
        manifest.failures = failures
        manifest.write(out)
    return TextPredictSummary(tuple(done), tuple(kept), tuple(failures), found, out / "index.html")


def _check_texts(cases: Sequence[InputCase], texts: Mapping[str | None, str]) -> None:
    if None in texts and len(cases) > 1:
        raise InputError(
            f"One sentence for {len(cases)} images, expected one image; give --texts with a sentence an image."
        )
    unknown = [name for name in texts if name is not None and name not in {case.name for case in cases}]
    if unknown:
        raise InputError(
            f"Sentences of {', '.join(map(repr, unknown[:5]))}, expected names of the {len(cases)} images given; "
            "correct the names, or give these images too."
        )


@dataclass(frozen=True)
class _Run:
    method: Method
    record: dict[str, Any]
    model: Path
    out: Path
    options: TextPredictOptions
    tried: TextOptions

    def identity(self) -> dict[str, Any]:
        """Everything but the case that decides what comes out, in plain types."""
        files = [self.model / name for name in (METHOD_FILE, ESTIMATOR_FILE, SEGMENTER_FILE)]
        content = asdict(self.options)
        content["predict"]["max_ram"] = None
        training = self.tried.training
        identity = {
            "model_sha256": {file.name: sha256_of(file) for file in files if file.exists()},
            "options": content,
            "training": None if training is None else training.to_json(),
            "version": versions().get("sfumato", ""),
        }
        return json.loads(json.dumps(identity))

    def facts(self) -> dict[str, str]:
        """For the footers of pages."""
        calibrated = len(self.record.get("calibrated_on", []))
        return {
            "method": self.method.spec.title,
            "model": self.model.name,
            "calibrated on": f"{calibrated} cases" if calibrated else "nothing",
            "sfumato": versions().get("sfumato", ""),
        }


def _all_cases(
    run: _Run, cases: Sequence[InputCase], texts: Mapping[str | None, str], manifest: Manifest, note
) -> tuple[list[str], list[str], list[str]]:
    done, kept, failures = [], [], []
    for case in cases:
        note(case.name, "start")
        try:
            sentence = texts.get(case.name, texts.get(None))
            hashes = {path.name: sha256_of(path) for path in case.images}
            manifest.inputs[case.name] = hashes
            identity = {"run": run.identity(), "inputs": hashes, "given": sentence}
            if _is_finished(run.out / case.name, identity):
                kept.append(case.name)
                note(case.name, "kept")
                continue
            manifest.seconds[case.name] = _one_case(run, case, sentence, identity)
            done.append(case.name)
            note(case.name, "done")
        except SfumatoError as error:
            failures.append(str(error))
            note(case.name, "failed")
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EFBIG, errno.EROFS, errno.EDQUOT):
                raise
            raise StorageError(
                f"{case.name}: could not be written to {run.out} ({error.strerror}); free space and run the same "
                "command again, finished cases are kept."
            ) from error
    return done, kept, failures


def _is_finished(folder: Path, identity: Mapping[str, Any]) -> bool:
    try:
        content = json.loads((folder / CASE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return {name: content.get(name) for name in identity} == dict(identity)


def _one_case(run: _Run, case: InputCase, sentence: str | None, identity: Mapping[str, Any]) -> float:
    image = read_image(case.images, case.name, run.options.resample)
    rule = rule_of(run.record)
    answer = answer_text(run.method, image, sentence, rule, run.options.predict, run.tried)
    spec = run.method.segmenter.spec  # type: ignore[attr-defined]
    with appearing(run.out / case.name) as folder:
        files = write_answer(folder, answer, spec.label_values, run.options.predict.float32)
        _write_pages(run, folder, answer)
        content = case_content(answer.result, spec.label_values, files)
        content |= {"text": text_content(answer), **identity}
        write_text(folder / CASE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return answer.result.seconds


def _write_pages(run: _Run, folder: Path, answer: TextAnswer) -> None:
    write_text_report(folder / PAGE, answer, run.facts())
    write_case_report(folder / DETAILS, answer.result, run.facts())
    (folder / THUMBNAIL).write_bytes(thumbnail(answer.result))


def _write_index(run: _Run, names: Sequence[str], failures: Sequence[str]) -> dict[str, dict[str, Any]]:
    found = {name: read_json(run.out / name / CASE_FILE) for name in names}
    rows = [
        CaseRow.from_case(name, content, (run.out / name / THUMBNAIL).read_bytes(), f"{name}/{PAGE}")
        for name, content in found.items()
    ]
    title = "sfumato: segmented by sentences"
    write_index(run.out / "index.html", title, rows, None, run.facts(), failures)
    return found
