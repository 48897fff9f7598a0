"""`sfumato sam predict`: images and prompts in, one finished folder per image out, and what to look at first."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...datasets.prompt_file import ObjectPrompt
from ...errors import InputError, SfumatoError, StorageError
from ...pipeline.follow import FollowOptions
from ...pipeline.prompted_case import Judge, segment_prompted
from ...report.sam import ListedMask, write_mask_list, write_prompted_report
from ...report.sam_pictures import case_picture, draw_panels, thumbnail
from ...segmenters.pinned import sha256_of
from ...segmenters.promptable import PromptableSegmenter
from ...storage import read_json
from ..files import InputCase, appearing, find_inputs, locked, write_text
from ..manifest import Manifest, versions
from .heads import Heads
from .outputs import case_content, write_masks
from .planes import read_planes

CASE_FILE, PAGE, PICTURE = "case.json", "report.html", "picture.png"
LEAD = "Masks in the order in which to look at them: the lowest {} first."


@dataclass(frozen=True)
class PromptedOptions:
    """How images are segmented.

    Args:
        follow: when objects of a volume are followed to further slices.
        advise: look one click ahead.
        channel: that the network sees; pictures of three channels are seen in colour.
        resample: accept sheared or contradictory headers.
    """

    follow: FollowOptions = field(default_factory=FollowOptions)
    advise: bool = True
    channel: int = 0
    resample: bool = False


@dataclass(frozen=True)
class PromptedSummary:
    """What a run did.

    Args:
        done: cases computed now.
        kept: cases found finished from an earlier run.
        failures: one sentence per case that could not be predicted.
        objects: of all finished cases, as in their `case.json`, with the case's name; worst first.
        index: the page to open.
    """

    done: tuple[str, ...]
    kept: tuple[str, ...]
    failures: tuple[str, ...]
    objects: tuple[Mapping[str, Any], ...]
    index: Path


def predict_prompted(
    inputs: Sequence[Path],
    prompts: Mapping[str | None, Sequence[ObjectPrompt]],
    out: Path,
    network: PromptableSegmenter,
    heads: Heads | None = None,
    options: PromptedOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
) -> PromptedSummary:
    """Segment what is pointed at in every image; a case that fails is reported and the others go on.

    A killed run is finished by the same call: finished cases with the same inputs, prompts, heads and options are kept.

    Args:
        inputs: image files, or folders of them.
        prompts: by case; under None those of the only image.
        out: gets a folder per case, `index.html` and `manifest.json`.
        network: that is asked; `heads.network` where there are heads.
        heads: tell the expected IoU; None shows the network's own estimates as what they are.
        options: see `PromptedOptions`.
        note: told each case's name and `start`, `done`, `kept` or `failed`.

    Raises:
        InputError: nothing to read, or prompts of one image for several.
        StorageError: the folder cannot be written, or the disk is full.
    """
    options = options or PromptedOptions()
    cases = find_inputs(inputs)
    if None in prompts and len(cases) > 1:
        raise InputError(
            f"Prompts of one image for {len(cases)} images, expected one image; give --prompts with images by name."
        )
    run = _Run(network, heads, options, out)
    with locked(out):
        manifest = Manifest("sam predict", run.identity())
        done, kept, failures = _all_cases(run, cases, prompts, manifest, note)
        objects = _write_index(run, sorted([*done, *kept]), failures)
        manifest.failures = failures
        manifest.write(out)
    return PromptedSummary(tuple(done), tuple(kept), tuple(failures), tuple(objects), out / "index.html")


@dataclass(frozen=True)
class _Run:
    network: PromptableSegmenter
    heads: Heads | None
    options: PromptedOptions
    out: Path

    def identity(self) -> dict[str, Any]:
        """Everything but the case that decides what comes out, in plain types."""
        content = {
            "network": self.network.card.key,
            "heads": None if self.heads is None else self.heads.sha256,
            "options": asdict(self.options),
            "version": versions().get("sfumato", ""),
        }
        return json.loads(json.dumps(content))

    def facts(self) -> dict[str, str]:
        """For the footers of pages."""
        card = self.network.card
        judged = {} if self.heads is None else {"heads": self.heads.name}
        return (
            {"network": f"{card.name}, side {card.side}"}
            | judged
            | {"sfumato": versions().get("sfumato", "")}
        )


def _all_cases(
    run: _Run,
    cases: Sequence[InputCase],
    prompts: Mapping[str | None, Sequence[ObjectPrompt]],
    manifest: Manifest,
    note: Callable[[str, str], None],
) -> tuple[list[str], list[str], list[str]]:
    done, kept, failures = [], [], []
    for case in cases:
        note(case.name, "start")
        try:
            given = prompts.get(case.name, prompts.get(None, ()))
            identity = _case_identity(run, case, given)
            manifest.inputs[case.name] = identity["inputs"]
            if _is_finished(run.out / case.name, identity):
                kept.append(case.name)
                note(case.name, "kept")
                continue
            _one_case(run, case, given, identity)
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


def _case_identity(run: _Run, case: InputCase, given: Sequence[ObjectPrompt]) -> dict[str, Any]:
    content = {
        "run": run.identity(),
        "inputs": {path.name: sha256_of(path) for path in case.images},
        "prompts": [asdict(prompt) for prompt in given],
    }
    return json.loads(json.dumps(content))


def _is_finished(folder: Path, identity: Mapping[str, Any]) -> bool:
    try:
        content = json.loads((folder / CASE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return {name: content.get(name) for name in identity} == dict(identity)


def _one_case(run: _Run, case: InputCase, given: Sequence[ObjectPrompt], identity: Mapping[str, Any]) -> None:
    planes = read_planes(case.images, case.name, run.options.channel, run.options.resample)
    judge = None if run.heads is None else Judge(run.heads.assess, run.heads.larger)
    result = segment_prompted(
        run.network,
        planes.image,
        planes.slices,
        given,
        judge,
        run.options.follow,
        run.options.advise,
    )
    with appearing(run.out / case.name) as folder:
        files = write_masks(folder, result)
        panels = draw_panels(result)
        (folder / PICTURE).write_bytes(case_picture(result, panels))
        write_prompted_report(folder / PAGE, result, panels, run.facts())
        for number, found in enumerate(result.objects, start=1):
            worst = result.worst(found)
            small = thumbnail(result.slices, worst.prompt.plane or 0, worst)
            (folder / f"thumbnail_{number}.png").write_bytes(small)
        content = case_content(result, files) | dict(identity)
        write_text(folder / CASE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _write_index(run: _Run, names: Sequence[str], failures: Sequence[str]) -> list[dict[str, Any]]:
    """All objects of all cases, the lowest expected IoU first; those without heads by the own estimate."""
    objects = [
        {"case": name, **found}
        for name in names
        for found in read_json(run.out / name / CASE_FILE)["objects"]
    ]
    objects.sort(key=lambda found: (_doubt(found), found["case"], found["number"]))
    masks = [
        ListedMask(
            f"{found['case']}, {found['name']}",
            (run.out / found["case"] / f"thumbnail_{found['number']}.png").read_bytes(),
            _doubt(found),
            found["sentence"],
            f"{found['case']}/{PAGE}",
        )
        for found in objects
    ]
    lead = LEAD.format("own estimate of the network" if run.heads is None else "expected IoU")
    write_mask_list(
        run.out / "index.html", "sfumato: what was pointed at", lead, masks, run.facts(), failures
    )
    return objects


def _doubt(found: Mapping[str, Any]) -> float:
    value = found["expected_iou"] if found["expected_iou"] is not None else found["own_estimate"]
    return float(value)
