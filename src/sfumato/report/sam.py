"""The page of an image that somebody pointed at, and the list of such images: what to look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..pipeline.prompted_case import PromptedCase
from ..pipeline.prompted_plane import ObjectAnswer
from ..pipeline.prompted_volume import FollowedObject
from .case import describe_grid
from .figures import colour_bar, heat
from .html import Markup, escape, join, page, picture, table, tag
from .sam_pictures import HEADS, Panels, mask_colour
from .sam_wording import UNCALIBRATED, advice, interval, numbers


@dataclass(frozen=True)
class ListedMask:
    """One mask of a list.

    Args:
        name: of the case and object.
        thumbnail: PNG bytes, may be empty.
        expected_iou: of the mask.
        sentence: what is said of it.
        link: page of the case relative to the list; empty without one.
        mark: a word on what was decided, such as `kept`; empty without one.
    """

    name: str
    thumbnail: bytes
    expected_iou: float
    sentence: str
    link: str = ""
    mark: str = ""


def write_prompted_report(path: Path, case: PromptedCase, panels: Panels, facts: Mapping[str, str]) -> None:
    """Write the page of a case as one HTML file that needs nothing else; equal input gives equal bytes.

    Args:
        path: of the file.
        case: finished.
        panels: from `draw_panels`.
        facts: shown in the footer; no times.
    """
    warning = [] if case.calibrated else [tag("p", UNCALIBRATED, class_="warning")]
    content = page(
        case.image.name,
        tag("div", tag("h1", case.image.name), class_="head"),
        tag("p", describe_grid(case.image.geometry), class_="note"),
        *warning,
        *(_object(case, number, found, panels) for number, found in enumerate(case.objects, start=1)),
        _notes(case),
        facts=facts,
    )
    path.write_text(content, encoding="utf-8", newline="\n")


def write_mask_list(
    path: Path,
    title: str,
    lead: str,
    masks: Sequence[ListedMask],
    facts: Mapping[str, str],
    failures: Sequence[str] = (),
    plots: Sequence[tuple[str, bytes]] = (),
) -> None:
    """Write a page of masks in the order in which they come.

    Args:
        path: of the file.
        title: heading.
        lead: one or two sentences on what the order means.
        masks: to show.
        facts: shown in the footer; no times.
        failures: one sentence per case that could not be used.
        plots: caption and PNG bytes each.
    """
    content = page(
        title,
        tag("div", tag("h1", title), class_="head"),
        tag("p", lead),
        *(tag("p", sentence, class_="warning") for sentence in failures),
        *(tag("figure", picture(png, caption, 560), tag("figcaption", caption)) for caption, png in plots),
        tag("div", join(_card(mask) for mask in masks), class_="gallery"),
        facts=facts,
    )
    path.write_text(content, encoding="utf-8", newline="\n")


def _object(case: PromptedCase, number: int, found: FollowedObject, panels: Panels) -> Markup:
    parts = [tag("h2", f"{number}. {found.name}")]
    if case.volume:
        parts.append(tag("p", _whole(case, found)))
    for index in sorted(found.answers):
        parts.append(_answer(case, number, found.answers[index], panels[number, index]))
    if case.volume:
        parts.append(_slices(found))
    return join(parts)


def _answer(
    case: PromptedCase, number: int, answer: ObjectAnswer, panels: tuple[bytes, bytes, bytes]
) -> Markup:
    where = f"Slice {answer.prompt.plane}. " if case.volume else ""
    said = tag("p", tag("b", where + advice(answer, case.calibrated, case.larger)))
    bar = picture(colour_bar(heat(), 0.0, 1.0), "Colour bar, 0 to 1 bit")
    below = (Markup(""), _legend(answer), bar)
    heads = [
        tag("div", tag("small", title), tag("div", under), class_="top")
        for title, under in zip(HEADS, below, strict=True)
    ]
    cells = [
        tag("div", picture(png, f"Object {number}: {title}"), class_="panel")
        for png, title in zip(panels, HEADS, strict=True)
    ]
    grid = tag("div", join([*heads, *cells]), class_="views")
    rows = numbers(answer, case.calibrated, case.larger)
    return join([said, grid, table(("number", "value", "what it means"), rows, numbers=(1,))])


def _legend(answer: ObjectAnswer) -> Markup:
    """Colour, number and expected IoU of every mask; the offered one is named."""
    entries = []
    for j, value in enumerate(answer.expected_iou):
        key = f'<i class="key"><i style="border-top: 3px solid {mask_colour(j)}"></i></i>'
        offered = " (offered)" if j == answer.chosen else ""
        entries.append(Markup(f"<span>{key}{j + 1}: {value:.2f}{escape(offered)}</span>"))
    return tag("small", join(entries, " "), class_="legend")


def _whole(case: PromptedCase, found: FollowedObject) -> str:
    if not found.slices:
        return "Nothing was found on the slices that were pointed at."
    voxels = sum(int(kept.mask.sum()) for kept in found.slices.values())
    estimate, ml = case.estimate(found), voxels * case.image.geometry.voxel_ml
    ends = "".join(f" Towards the {end} slice it ends at {why}." for end, why in sorted(found.ends.items()))
    told = "Expected" if case.calibrated else "By the network's own estimates, not calibrated, the"
    return (
        f"Slices {min(found.slices)} to {max(found.slices)}, {ml:.3g} ml. {told} IoU of the whole object "
        f"{estimate.iou:.2f}, Dice {estimate.dice:.2f}, if no slice was wrongly left empty.{ends}"
    )


def _slices(found: FollowedObject) -> Markup:
    rows = [
        (index, "pointed at" if index in found.answers else "followed", int(kept.mask.sum()),
         interval(kept.expected_iou, kept.low, kept.high))
        for index, kept in found.slices.items()
    ]  # fmt: skip
    return table(("slice", "", "pixels", "expected IoU"), rows, numbers=(0, 2, 3))


def _notes(case: PromptedCase) -> Markup:
    notes = [
        "Rows count downwards and columns to the right from 0, in the file's axis order, as they are typed."
    ]
    if case.slices.axis is not None:
        notes.append(f"Slices lie along axis {case.slices.axis} of the file.")
    return tag("p", " ".join(notes), class_="note")


def _card(mask: ListedMask) -> Markup:
    shown = picture(mask.thumbnail, f"{mask.name} with its outline") if mask.thumbnail else Markup("")
    name = tag("a", mask.name, href=mask.link) if mask.link else mask.name
    return tag(
        "figure",
        tag("div", shown, class_="panel"),
        tag("h3", name),
        tag("small", tag("b", mask.mark)) if mask.mark else Markup(""),
        tag("p", mask.sentence),
    )
