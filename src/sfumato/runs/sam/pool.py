"""A data set's objects, each segmented from one prompt and judged: what ordering and filtering start from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets import Case, open_dataset
from ...datasets.prompt_file import ObjectPrompt, check_prompts, read_prompts
from ...datasets.prompts import LEAST_AREA, OBJECT_MODES, ObjectMode, objects_of, prompt_of
from ...datasets.splits import PATIENT_PATTERN
from ...errors import ConfigError, DatasetError, SfumatoError
from ...pipeline.prompted_plane import ObjectAnswer, answer_plane
from ...report.sam_pictures import thumbnail
from ...segmenters.pinned import sha256_of
from ..files import find_inputs
from .heads import Heads
from .judged import SUFFIX, JudgedCase, JudgedMask, read_judged, write_judged
from .planes import Planes, read_labelled, read_planes

MASK_PROMPTS = ("point", "box", "loose_box", "box_and_point")


@dataclass(frozen=True)
class PoolOptions:
    """Which objects are judged, and from which prompts.

    Args:
        prompts: a prompts file; None draws prompts from the masks that are there.
        kind: of drawn prompts, one of `MASK_PROMPTS`.
        objects: what an object of a mask is, see `objects_of`.
        min_area: smaller objects are left out, in pixels.
        channel: that the network sees; pictures of three channels are seen in colour.
        resample: accept sheared or contradictory headers.
        seed: of drawn prompts.
        patient_pattern: see `sfumato.datasets`.
    """

    prompts: Path | None = None
    kind: str = "box"
    objects: ObjectMode = "components"
    min_area: int = LEAST_AREA
    channel: int = 0
    resample: bool = False
    seed: int = 0
    patient_pattern: str = PATIENT_PATTERN

    def __post_init__(self) -> None:
        if self.objects not in OBJECT_MODES:
            raise ConfigError(f"Objects {self.objects!r}, expected one of {', '.join(OBJECT_MODES)}.")
        if self.kind not in MASK_PROMPTS:
            raise ConfigError(f"A prompt of kind {self.kind!r}, expected one of {', '.join(MASK_PROMPTS)}.")


@dataclass(frozen=True)
class _Asked:
    value: int
    prompt: ObjectPrompt
    truth: np.ndarray | None


def judge_pool(
    data: Path,
    heads: Heads,
    out: Path,
    options: PoolOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
) -> tuple[list[JudgedCase], list[str]]:
    """Segment and judge every object; one file per image in `out/judged/`, so a killed run goes on where it stopped.

    Args:
        data: a data set folder; with a prompts file, a folder of images will do.
        heads: with their network.
        out: for the files.
        options: see `PoolOptions`.
        note: told each case's name and `start`, `done`, `kept` or `failed`.

    Returns:
        Cases with at least one object, and one sentence per case that could not be used.

    Raises:
        DatasetError: no data set, or no case with an object.
    """
    options = options or PoolOptions()
    given = None if options.prompts is None else read_prompts(options.prompts)
    cases = _cases(data, options) if given is None else _named(data, given)
    judged, failures = [], []
    for case in cases:
        note(case.name, "start")
        path = out / "judged" / f"{case.name}{SUFFIX}"
        try:
            pointed = None if given is None else given.get(case.name, given.get(None, ()))
            identity = _identity(case, heads, options, pointed)
            found = read_judged(path, case, identity)
            state = "kept" if found else "done"
            if found is None:
                found = _judge(case, heads, options, pointed)
                write_judged(path, found, identity)
            judged += [found] if found.masks else []
            note(case.name, state)
        except SfumatoError as error:
            failures.append(str(error))
            note(case.name, "failed")
    if not judged:
        first = f" The first: {failures[0]}" if failures else ""
        raise DatasetError(f"{data}: no image with an object to judge among {len(cases)}.{first}")
    return judged, failures


def _cases(data: Path, options: PoolOptions) -> list[Case]:
    return list(open_dataset(data, options.patient_pattern).cases.values())


def _named(data: Path, given: Mapping[str | None, Sequence[ObjectPrompt]]) -> list[Case]:
    found = [Case(case.name, case.name, case.images) for case in find_inputs([data])]
    if None in given and len(found) > 1:
        raise DatasetError(
            f"Prompts of one image for {len(found)} images, expected prompts by the images' names."
        )
    kept = [case for case in found if case.name in given or None in given]
    missing = sorted(set(given) - {case.name for case in found} - {None})  # type: ignore[type-var]  # None is out
    if missing:
        raise DatasetError(
            f"{data}: has no image {missing[0]!r} that the prompts file names; correct the name."
        )
    return kept


def _judge(
    case: Case, heads: Heads, options: PoolOptions, pointed: Sequence[ObjectPrompt] | None
) -> JudgedCase:
    planes, asked = _asked(case, options, pointed)
    masks, pixels, thumbnails = [], [], []
    for index in sorted({a.prompt.plane or 0 for a in asked}):
        here = [a for a in asked if (a.prompt.plane or 0) == index]
        plane = planes.plane(index)
        embedding = heads.network.encode(plane)
        answers = answer_plane(heads.network, embedding, [a.prompt for a in here], heads.assess, advise=False)
        for told, answer in zip(here, answers, strict=True):
            masks.append(_judged(case, index, told, answer))
            pixels.append(answer.kept.mask)
            thumbnails.append(thumbnail(planes.slices, index, answer))
    shape = (0, *planes.sides)
    return JudgedCase(
        case, tuple(masks), np.stack(pixels) if pixels else np.zeros(shape, bool), tuple(thumbnails)
    )


def _asked(
    case: Case, options: PoolOptions, pointed: Sequence[ObjectPrompt] | None
) -> tuple[Planes, list[_Asked]]:
    if pointed is not None:
        planes = read_planes(case.images, case.name, options.channel, options.resample)
        check_prompts(pointed, planes.sides, len(planes) if planes.volume else None, case.name)
        return planes, [_Asked(number, prompt, None) for number, prompt in enumerate(pointed, start=1)]
    planes, label = read_labelled(case, options.channel, options.resample)
    draw = np.random.default_rng([options.seed, zlib.crc32(case.name.encode())])
    found = []
    for index, plane in enumerate(label):
        for name, mask in objects_of(plane, options.objects, options.min_area):
            given = prompt_of(mask, options.kind, name, draw)
            placed = ObjectPrompt(given.name, given.points, given.box, index if planes.volume else None)
            found.append(_Asked(int(name.split(".")[0]), placed, mask))
    return planes, found


def _judged(case: Case, index: int, told: _Asked, answer: ObjectAnswer) -> JudgedMask:
    mask, kept = answer.kept.mask, answer.kept
    agreement = None
    if told.truth is not None:
        agreement = float((mask & told.truth).sum() / max(1, (mask | told.truth).sum()))
    gaps = answer.model_gap, answer.prompt_gap, answer.task_gap
    own = answer.estimates[answer.own]
    numbers = kept.expected_iou, kept.low, kept.high, own, *gaps
    return JudgedMask(
        case.name, told.prompt.name, told.value, index, *numbers, pixels=int(mask.sum()), agreement=agreement
    )


def _identity(
    case: Case, heads: Heads, options: PoolOptions, pointed: Sequence[ObjectPrompt] | None
) -> dict[str, Any]:
    files = [*case.images, *([case.label] if case.label and pointed is None else [])]
    content = {
        "files": [sha256_of(path) for path in files],
        "heads": heads.sha256,
        "network": heads.network.card.key,
        "options": {**asdict(options), "prompts": None},
        "prompts": None if pointed is None else [asdict(prompt) for prompt in pointed],
    }
    return json.loads(json.dumps(content))
