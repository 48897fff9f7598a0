"""From a labelled data set to records: prompts are drawn from the masks and asked on every network of a ladder."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ...datasets import Case
from ...datasets.prompts import LEAST_AREA, OBJECT_MODES, ObjectMode, draw_prompts, objects_of, pick
from ...errors import ConfigError, SfumatoError
from ...methods.sam_gaps.collect import AskedObject, References, measure
from ...methods.sam_gaps.dense import dense_prompt
from ...methods.sam_gaps.records import GapRecords
from ...segmenters.pinned import sha256_of
from ...segmenters.promptable.ladder import Ladder
from ...types import SpatialPrompt
from .planes import Planes, read_labelled
from .record_files import SUFFIX, is_collected, save_records


@dataclass(frozen=True)
class CollectOptions:
    """What is asked of a data set.

    Args:
        objects: what an object is, see `sfumato.datasets.prompts.objects_of`.
        per_image: objects per plane at most, drawn by the seed.
        per_object: prompts per object at most, drawn among those of `draw_prompts`; the click at the centre stays.
        per_volume: slices per volume at most, drawn among those with an object.
        min_area: smaller objects are left out, in pixels.
        channel: that the network sees; pictures of three channels are seen in colour.
        resample: accept sheared or contradictory headers.
        seed: of everything that is drawn; what is drawn of a case depends on the seed and its name alone.
    """

    objects: ObjectMode = "components"
    per_image: int = 8
    per_object: int = 7
    per_volume: int = 8
    min_area: int = LEAST_AREA
    channel: int = 0
    resample: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objects not in OBJECT_MODES:
            raise ConfigError(f"Objects {self.objects!r}, expected one of {', '.join(OBJECT_MODES)}.")
        for name in ("per_image", "per_object", "per_volume", "min_area"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected 1 or more.")


@dataclass(frozen=True)
class Collected:
    """What a collecting run did.

    Args:
        done: cases asked now.
        kept: cases found from an earlier run.
        failures: one sentence per case that could not be used.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    failures: tuple[str, ...]


def collect(
    cases: Sequence[Case],
    data_set: str,
    ladder: Ladder,
    folder: Path,
    options: CollectOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
    references: References | None = None,
) -> Collected:
    """Ask every case and write one file of records per case into `folder`; `load_records` reads them.

    A killed run goes on where it stopped: files of the same case, networks and options are kept.

    Args:
        cases: labelled; `Case.patient` becomes the group of splits and bootstraps.
        data_set: its name, kept in the records.
        ladder: networks, cheapest first; each may stand behind a cache of embeddings.
        folder: made if needed.
        options: see `CollectOptions`.
        note: told each case's name and `start`, `done`, `kept` or `failed`.
        references: Monte-Carlo references to compute as well, see `methods.sam_gaps.collect`.

    Raises:
        StorageError: the folder cannot be written.
    """
    options = options or CollectOptions()
    done, kept, failures = [], [], []
    for case in cases:
        note(case.name, "start")
        path = Path(folder) / f"{case.name}{SUFFIX}"
        try:
            identity = _identity(case, data_set, ladder, options, references is not None)
            if is_collected(path, identity):
                kept.append(case.name)
                note(case.name, "kept")
                continue
            save_records(path, ask_case(case, data_set, ladder, options, references), identity)
            done.append(case.name)
            note(case.name, "done")
        except SfumatoError as error:
            failures.append(str(error))
            note(case.name, "failed")
    return Collected(tuple(done), tuple(kept), tuple(failures))


def ask_case(
    case: Case, data_set: str, ladder: Ladder, options: CollectOptions, references: References | None = None
) -> GapRecords | None:
    """Records of one case; None where it has no object.

    Raises:
        InputError: an image or label that cannot be used.
    """
    planes, label = read_labelled(case, options.channel, options.resample)
    draw = np.random.default_rng([options.seed, zlib.crc32(case.name.encode())])
    parts = []
    for index in _slices(label, options, draw):
        found = pick(objects_of(label[index], options.objects, options.min_area), options.per_image, draw)
        embeddings = [rung.encode(planes.plane(index)) for rung in ladder.rungs]
        for name, mask in found:
            asked = _asked(_object_name(case, planes, index, name), mask, options.per_object, draw)
            parts.append(measure(ladder.rungs, embeddings, asked, case.patient, data_set, references))
    return GapRecords.cat(parts) if parts else None


def _slices(label: np.ndarray, options: CollectOptions, draw: np.random.Generator) -> list[int]:
    filled = [i for i, plane in enumerate(label) if objects_of(plane, options.objects, options.min_area)]
    return pick(filled, options.per_volume, draw)


def _object_name(case: Case, planes: Planes, index: int, name: str) -> str:
    return f"{case.name}/{index}#{name}" if planes.volume else f"{case.name}#{name}"


def _asked(name: str, mask: np.ndarray, most: int, draw: np.random.Generator) -> AskedObject:
    """Prompts of several kinds for an object, and of each the dense one, which keeps a box over the object."""
    prompts, kinds = draw_prompts(mask, draw)
    rows = [0, *pick(range(1, len(kinds)), most - 1, draw)]
    prompts, kinds = prompts[torch.tensor(rows)], tuple(kinds[row] for row in rows)
    truth = torch.from_numpy(mask)
    generator = torch.Generator().manual_seed(int(draw.integers(2**31)))
    kept = [None if kind == "misplaced_box" else prompts[row] for row, kind in enumerate(kinds)]
    dense = [dense_prompt(truth, generator, given) for given in kept]
    return AskedObject(name, truth, prompts, kinds, _stacked(dense))


def _stacked(prompts: Sequence[SpatialPrompt]) -> SpatialPrompt:
    """Rows of equally many clicks; NaN where a row has no box."""
    corners = [torch.full((1, 2, 2), torch.nan) if p.corners is None else p.corners for p in prompts]
    coordinates, signs = (torch.cat([getattr(p, name) for p in prompts]) for name in ("coordinates", "signs"))
    return SpatialPrompt(coordinates, signs, torch.cat(corners))


def _identity(case: Case, data_set: str, ladder: Ladder, options: CollectOptions, references: bool) -> dict:
    files = [*case.images, *([] if case.label is None else [case.label])]
    return {
        "case": case.name,
        "group": case.patient,
        "set": data_set,
        "files": [sha256_of(path) for path in files],
        "ladder": [rung.card.key for rung in ladder.rungs],
        "options": asdict(options),
        "references": references,
    }
