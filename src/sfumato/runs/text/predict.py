"""`sfumato predict text_guided`: images and sentences in, one finished folder per image out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...imaging import read_image
from ...interfaces import Method
from ...pipeline.case import PredictOptions
from ...pipeline.text_answer import TextAnswer, TextOptions, answer_text
from ...report.case import thumbnail, write_case_report
from ...report.index import CaseRow, write_index
from ...report.text import DETAILS, write_text_report
from ...segmenters.pinned import sha256_of
from ...storage import ESTIMATOR_FILE, METHOD_FILE, SEGMENTER_FILE, read_json
from ..cases import CASE_FILE, finish_cases, write_case
from ..files import InputCase, appearing, find_inputs, locked
from ..fit import rule_of
from ..manifest import Manifest, versions
from ..outputs import case_content
from .model import UNCALIBRATED, open_text_model
from .outputs import text_content, write_answer
from .sentences import read_sentences

PAGE, THUMBNAIL = "report.html", "thumbnail.png"


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
        settled = run.identity()
        manifest = Manifest("predict text_guided", settled)
        found = finish_cases(
            cases,
            out,
            manifest,
            lambda case: {"run": settled, "given": texts.get(case.name, texts.get(None))},
            lambda case, identity: _one_case(run, case, identity),
            note,
        )
        content = _write_index(run, found.names, found.failures)
        manifest.failures = list(found.failures)
        manifest.write(out)
    return TextPredictSummary(found.done, found.kept, found.failures, content, out / "index.html")


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


def _one_case(run: _Run, case: InputCase, identity: Mapping[str, Any]) -> float:
    image = read_image(case.images, case.name, run.options.resample)
    rule = rule_of(run.record)
    answer = answer_text(run.method, image, identity["given"], rule, run.options.predict, run.tried)
    spec = run.method.segmenter.spec  # type: ignore[attr-defined]
    with appearing(run.out / case.name) as folder:
        files = write_answer(folder, answer, spec.label_values, run.options.predict.float32)
        _write_pages(run, folder, answer)
        content = case_content(answer.result, spec.label_values, files)
        write_case(folder, {**content, "text": text_content(answer)}, identity)
    return answer.result.seconds


def _write_pages(run: _Run, folder: Path, answer: TextAnswer) -> None:
    write_text_report(folder / PAGE, answer, run.facts(), run.options.sides)
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
