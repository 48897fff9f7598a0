"""`sfumato sam predict`: images and prompts in, one finished folder per image out, and what to look at first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...datasets.prompt_file import ObjectPrompt
from ...errors import InputError
from ...pipeline.follow import FollowOptions
from ...pipeline.prompted_case import Judge, segment_prompted
from ...report.sam import ListedMask, write_mask_list, write_prompted_report
from ...report.sam_pictures import case_picture, draw_panels, thumbnail
from ...segmenters.promptable import PromptableSegmenter
from ...storage import read_json
from ..cases import CASE_FILE, finish_cases, write_case
from ..files import InputCase, appearing, find_inputs, locked
from ..manifest import Manifest, versions
from .heads import Heads
from .outputs import case_content, write_masks
from .planes import read_planes

PAGE, PICTURE = "report.html", "picture.png"
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
        settled = run.identity()
        manifest = Manifest("sam predict", settled)
        found = finish_cases(
            cases,
            out,
            manifest,
            lambda case: {"run": settled, "prompts": [asdict(p) for p in _given(prompts, case)]},
            lambda case, identity: _one_case(run, case, _given(prompts, case), identity),
            note,
        )
        objects = _write_index(run, found.names, found.failures)
        manifest.failures = list(found.failures)
        manifest.write(out)
    return PromptedSummary(found.done, found.kept, found.failures, tuple(objects), out / "index.html")


def _given(prompts: Mapping[str | None, Sequence[ObjectPrompt]], case: InputCase) -> Sequence[ObjectPrompt]:
    return prompts.get(case.name, prompts.get(None, ()))


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
        write_case(folder, case_content(result, files), identity)


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
