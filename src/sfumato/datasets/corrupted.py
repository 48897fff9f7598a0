"""A copy of a data set in which some cases are wrong, and a file that says which: to test what should find them.

The share of wrong cases is exact, a smaller share lies within a larger one, and one seed gives one plan whatever
the order of the cases.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, InputError, StorageError, UnknownNameError
from ..imaging import (
    VOLUMES,
    Image,
    LabelMap,
    picture_suffix,
    read_image,
    read_label,
    stem_of,
    suffix_of,
    write_image_picture,
    write_label_picture,
    write_nifti,
)
from .corruption import CORRUPTIONS, SEVERITIES, corrupt_image
from .folder import Case, Dataset
from .label_corruption import LABEL_CORRUPTIONS, corrupt_label

PLAN_FILE = "corruption.json"
"""In the folder of the copy."""
FORMAT = 1
BESIDE = ("dataset.json", "splits.json")
"""Copied where they are."""


@dataclass(frozen=True)
class Corruption:
    """What is wrong with a case.

    Args:
        target: "image" or "label".
        name: one of `CORRUPTIONS` or of `LABEL_CORRUPTIONS`.
        severity: 1 to 3.
    """

    target: str
    name: str
    severity: int


def plan_corruption(
    cases: Iterable[str],
    kinds: Sequence[str],
    prevalence: float | str | Fraction,
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> dict[str, Corruption]:
    """Draw which cases become wrong, and how; kinds and severities take turns, so all are as frequent.

    Args:
        cases: their names.
        kinds: names of image and label corruptions.
        prevalence: share of the cases, in [0, 1]; read as a decimal, and half a case counts as one.
        severities: 1 mild, 2 middle, 3 severe.
        seed: of everything drawn.

    Raises:
        UnknownNameError: no such corruption.
        ConfigError: a share outside [0, 1], no kind, or other severities.

    Example:
        >>> names = [f"case{i}" for i in range(50)]
        >>> few = plan_corruption(names, ["noise", "swap"], 0.05)
        >>> many = plan_corruption(names, ["noise", "swap"], 0.1)
        >>> len(few), len(many), few.items() <= many.items()
        (3, 5, True)
    """
    share = Fraction(str(prevalence))
    if not 0 <= share <= 1:
        raise ConfigError(f"prevalence {prevalence}, expected from 0 to 1.")
    if not kinds or not severities or not set(severities) <= set(SEVERITIES):
        raise ConfigError(f"kinds {kinds} of severities {severities}, expected one or more, from 1 to 3.")
    drawn = [Corruption(_target(kind), kind, severity) for kind, severity in product(kinds, severities)]
    turns = np.random.default_rng(seed).permutation(len(drawn))
    names = sorted(set(cases), key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    count = int(share * len(names) + Fraction(1, 2))
    return {name: drawn[turns[i % len(turns)]] for i, name in enumerate(names[:count])}


def _target(kind: str) -> str:
    if kind in CORRUPTIONS:
        return "image"
    if kind in LABEL_CORRUPTIONS:
        return "label"
    raise UnknownNameError("corruption", kind, [*CORRUPTIONS, *LABEL_CORRUPTIONS])


def write_corrupted(
    dataset: Dataset, out: Path, plan: Mapping[str, Corruption], seed: int = 0, instances: bool = False
) -> None:
    """Write a data set with the wrong cases of a plan; of what several readers drew the first label changes.

    Folders and names stay. Changed pictures become PNG or TIFF, changed volumes stay NIfTI; all else is copied byte
    for byte. A copy that was interrupted goes on when it is asked for again with the same plan and seed.

    Args:
        dataset: as opened.
        out: folder of the copy; made if need be.
        plan: case -> what is wrong with it, as from `plan_corruption`.
        seed: of the corruptions themselves.
        instances: label files number objects of one class.

    Raises:
        UnknownNameError: a case that the data set does not have.
        StorageError: the folder holds a copy after another plan.
        InputError: an unreadable file, or a case on which a corruption has no effect.
    """
    for name, change in plan.items():
        if name not in dataset.cases:
            raise UnknownNameError("case", name, dataset.cases)
        if change.target == "label" and dataset.cases[name].label is None:
            raise InputError(
                f"{name}: has no label that {change.name} could change; leave it out of the plan."
            )
    _claim(out, {"seed": seed, "instances": instances, "cases": {n: asdict(c) for n, c in plan.items()}})
    for name in BESIDE:
        if (dataset.folder / name).exists():
            shutil.copyfile(dataset.folder / name, out / name)
    # By stem: a changed picture may end in another way than the one it was made from.
    done = {path.parent / stem_of(path) for path in out.rglob("*") if path.name[0] != "." and suffix_of(path)}
    for case in dataset.cases.values():
        change, labels = plan.get(case.name), (case.label, *case.readers)
        places = {file: out / file.relative_to(dataset.folder) for file in (*case.images, *labels) if file}
        due = [file for file, place in places.items() if place.parent / stem_of(place) not in done]
        wrong = () if change is None else case.images if change.target == "image" else (case.label,)
        for file in due:
            if file not in wrong:
                with _placing(places[file]) as part:
                    shutil.copyfile(file, part)
        if change is not None and set(wrong) & set(due):
            _write_wrong(case, places, change, seed, instances)


def _write_wrong(
    case: Case, places: Mapping[Path, Path], change: Corruption, seed: int, instances: bool
) -> None:
    how = change.name, change.severity, seed
    if change.target == "image":
        before = read_image(case.images, case.name)
        image = corrupt_image(before, *how)
        if np.array_equal(image.array, before.array):
            raise InputError(f"{case.name}: {change.name} changes nothing; choose another corruption.")
        _write_image([places[file] for file in case.images], image)
    elif case.label is not None:
        _write_label(places[case.label], corrupt_label(read_label(case.label, case.name), *how, instances))


def read_corruption(folder: Path) -> dict[str, Corruption]:
    """What is wrong in a copy that `write_corrupted` made: case -> corruption; the other cases are as they were.

    Raises:
        StorageError: no such file, a damaged one, or one of another format.
    """
    content = _read(folder / PLAN_FILE)
    return {name: Corruption(**change) for name, change in content["cases"].items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path}: not readable ({error}); expected the plan of a corrupted copy."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StorageError(f"{path}: not a plan of format {FORMAT}; make the copy again.")
    return content


def _claim(out: Path, plan: dict[str, Any]) -> None:
    """Put the plan into the folder before anything else, so that a copy never lies there without it."""
    out.mkdir(parents=True, exist_ok=True)
    path, content = out / PLAN_FILE, {"format": FORMAT, **plan}
    if path.exists():
        if _read(path) != content:
            raise StorageError(f"{out}: holds a copy after another plan or seed; choose another folder.")
        return
    if any(out.iterdir()):
        raise StorageError(f"{out}: is not empty and holds no {PLAN_FILE}; choose another folder.")
    with _placing(path) as part:
        part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def _placing(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to, renamed at the end: nobody ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    yield part
    os.replace(part, path)


def _write_image(paths: Sequence[Path], image: Image) -> None:
    """A volume or picture, or its channels one by one."""
    if len(paths) not in (1, len(image.array)):
        raise InputError(
            f"{image.name}: {len(image.array)} channels in {len(paths)} files, expected one channel in each."
        )
    for path, array in zip(paths, [image.array] if len(paths) == 1 else image.array[:, None], strict=True):
        if suffix_of(path) in VOLUMES:
            with _placing(path) as part:
                write_nifti(part, array[0] if len(array) == 1 else array, image.geometry)
        else:
            with _placing(path.with_name(stem_of(path) + picture_suffix(array))) as part:
                write_image_picture(part, array)


def _write_label(path: Path, label: LabelMap) -> None:
    if suffix_of(path) in VOLUMES:
        small = label.array.min() >= 0 and label.array.max() < 256
        with _placing(path) as part:
            write_nifti(part, label.array.astype(np.uint8) if small else label.array, label.geometry)
    else:
        with _placing(path.with_name(stem_of(path) + ".png")) as part:
            write_label_picture(part, label.array)
