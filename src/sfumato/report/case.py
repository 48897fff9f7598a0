"""The page of one case: what was decided, where to look, how much there is of a class, what scores mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..imaging import Geometry
from ..pipeline.result import CaseResult, unit
from .figures import colour_bar, doubt_panel, heat, image_panel, probability_panel, style_of
from .html import Markup, badge, escape, join, page, picture, table, tag
from .shading import Shading, choose_map, shade
from .thumbnail import colours_or_first, grey_window, luminance, plane_colours, thumbnail
from .views import CONVENTION, View, tilt, views_of
from .wording import MEANINGS, VOLUMES, amount, intensity, percent, score
from .worst import worst_centre

LEGEND_LIMIT = 12
"""Classes named beside the views; the table of volumes names all."""
ABSENT_LIMIT = 12
"""With more classes than this, those that were not found share one sentence."""
TILT_NOTED = 3.0
"""Degrees of rotation against the patient's axes from which on the page says so."""


def write_case_report(path: Path, result: CaseResult, facts: Mapping[str, str]) -> None:
    """Write the page of a case as one HTML file that needs nothing else.

    Args:
        path: of the file.
        result: the finished case.
        facts: shown in the footer, such as versions and the method; no times, so that equal input gives equal
            bytes.
    """
    path.write_text(case_page(result, facts), encoding="utf-8", newline="\n")


def case_page(result: CaseResult, facts: Mapping[str, str]) -> str:
    """The page as text; see `write_case_report`."""
    warnings = [tag("p", tag("b", "Warning: "), text, class_="warning") for text in result.warnings]
    return page(
        f"{result.image.name}: {result.decision.verdict if result.decision else 'no decision'}",
        _header(result),
        *warnings,
        _views(result),
        tag("h2", "Area" if result.image.geometry.dims == 2 else "Volume"),
        _volumes(result),
        tag("h2", "Scores"),
        _scores(result),
        facts=facts,
    )


def _header(result: CaseResult) -> Markup:
    decision = result.decision
    verdict = decision.verdict if decision else None
    reason = decision.reason if decision else "The method has no decision rule, so a person decides."
    head = tag("div", badge(verdict), tag("h1", result.image.name), class_="head")
    return join([head, tag("p", reason), tag("p", describe_grid(result.image.geometry), class_="note")])


def describe_grid(geometry: Geometry) -> str:
    """Size and spacing in words.

    Example:
        >>> describe_grid(Geometry((256, 320)))
        '256 x 320 pixels'
    """
    size = " x ".join(str(n) for n in geometry.shape)
    if geometry.dims == 2:
        return f"{size} pixels"
    return f"{size} voxels of {' x '.join(f'{s:.3g}' for s in geometry.spacing)} mm"


def _views(result: CaseResult) -> Markup:
    kind, values = choose_map(result)
    geometry = result.image.geometry
    centre, found = worst_centre(values, geometry.spacing, result.segmentation)
    views = views_of(geometry, centre, result.segmentation)
    shading = shade(kind, values, views)
    window = grey_window(result.image, views)
    cells: list[Markup] = [*_column_heads(result, views, shading)]
    for view in views:
        cells.extend(_row(result, view, shading, window))
    grid = tag("div", join(cells), class_="views")
    return join(
        [
            tag("h2", "Where to look first"),
            tag("p", _place(geometry, centre, found)),
            grid,
            _notes(result, window, shading),
        ]
    )


def _place(geometry: Geometry, centre: tuple[int, ...], found: bool) -> str:
    start = (
        "The cross marks the worst region"
        if found
        else "The map is the same everywhere, so the cross marks the middle of the segmentation or image"
    )
    if geometry.dims == 2:
        return f"{start}, at row {centre[0]}, column {centre[1]} (counted from 0)."
    world = geometry.affine[:3, :3] @ np.array(centre, dtype=float) + geometry.affine[:3, 3]
    ends = [f"{'RAS'[i] if v >= 0 else 'LPI'[i]} {abs(v):.1f}" for i, v in enumerate(world)]
    return f"{start}, at {', '.join(ends)} mm, voxel {', '.join(map(str, centre))} (counted from 0)."


def _column_heads(result: CaseResult, views: tuple[View, ...], shading: Shading) -> list[Markup]:
    doubt = colour_bar(heat(), shading.low, shading.high, more=True)
    heads = (
        ("Image and predicted outlines", _legend(result, views)),
        (
            "Probability of the likeliest structure",
            picture(colour_bar("viridis", 0.0, 1.0), "Colour bar, 0 to 1"),
        ),
        (shading.title, picture(doubt, f"Colour bar, {shading.low:.3g} to {shading.high:.3g}")),
    )
    return [tag("div", tag("h3", title), below, class_="top") for title, below in heads]


def _legend(result: CaseResult, views: tuple[View, ...]) -> Markup:
    counts = np.zeros(len(result.classes), np.int64)
    for view in views:
        counts += np.bincount(view.take(result.segmentation).ravel(), minlength=len(counts))
    # Largest first; equal counts keep the order of the classes.
    shown = [int(c) for c in np.argsort(-counts[1:], kind="stable") + 1 if counts[c] > 0]
    named = [
        Markup(f"<span>{_key(c)}{escape(result.classes[c])}</span>") for c in sorted(shown[:LEGEND_LIMIT])
    ]
    if not named:
        return tag("small", "Nothing was segmented in these planes.")
    more = f"and {len(shown) - LEGEND_LIMIT} more, see the table below" if len(shown) > LEGEND_LIMIT else ""
    return tag("small", join([*named, more], " "), class_="legend")


def _key(number: int) -> Markup:
    colour, dashes = style_of(number)
    return Markup(f'<i class="key"><i style="border-top: 3px {dashes} {colour}"></i></i>')


def _row(result: CaseResult, view: View, shading: Shading, window: tuple[float, float]) -> list[Markup]:
    colours = plane_colours(result.image, view, window)
    # Only this plane is read, class by class, so that a large probability map is never copied.
    probability = np.zeros(colours.shape[:2], np.float32)
    for number in range(1, len(result.probability)):
        np.maximum(probability, unit(view.take(result.probability[number])), out=probability)
    doubt = doubt_panel(view, luminance(colours), shading.take(view), shading.low, shading.high)
    panels = (
        (image_panel(view, colours, view.take(result.segmentation)), "image with the predicted outlines"),
        (probability_panel(view, probability), "calibrated probability of the likeliest structure"),
        (doubt, shading.title),
    )
    cells = [tag("div", picture(png, f"{view.title}: {what}"), class_="panel") for png, what in panels]
    caption = _caption(view)
    return [*cells, tag("figcaption", caption)] if caption else cells


def _caption(view: View) -> str:
    parts = []
    if view.normal is not None:
        axis, plane, planes = view.normal
        parts.append(f"{view.title}: plane {'ijk'[axis]} = {plane} of 0 to {planes - 1}.")
    if min(view.share) < 1:
        parts.append(f"Cropped to {view.share[1]:.0%} of the width and {view.share[0]:.0%} of the height.")
    return " ".join(parts)


def _notes(result: CaseResult, window: tuple[float, float], shading: Shading) -> Markup:
    geometry = result.image.geometry
    notes = [CONVENTION] if geometry.dims == 3 else []
    angle = tilt(geometry.affine) if geometry.dims == 3 else 0.0
    if angle > TILT_NOTED:
        notes.append(
            f"The grid is rotated by up to {angle:.0f} degrees against the patient's axes: views follow the grid "
            "and letters name the nearest direction."
        )
    notes.append(f"Black is an intensity of {intensity(window[0])}, white {intensity(window[1])}.")
    channels = result.image.array.shape[0]
    if channels > len(colours_or_first(result.image)):
        notes.append(f"The first of {channels} channels is shown.")
    if not shading.fixed:
        notes.append(f"{shading.title}: colours span this case's own range and say nothing across cases.")
    centres = "pixel" if geometry.dims == 2 else "voxel"
    notes.append(f"Probability and doubt are drawn smoothly between {centres} centres.")
    return tag("p", " ".join(notes), class_="note")


def _volumes(result: CaseResult) -> Markup:
    pictures = result.image.geometry.dims == 2
    pixel = result.image.geometry.voxel_ml if pictures else None
    number = {name: i for i, name in enumerate(result.classes)}
    listed, absent = [], []
    for name, (hard, soft) in result.volumes.items():
        if len(result.volumes) > ABSENT_LIMIT and hard == 0:
            absent.append(name)
            continue
        change = percent(soft / hard - 1) if hard > 0 else "not defined"
        swatch = _key(number[name]) if number.get(name) else Markup("")
        listed.append((Markup(f"{swatch}{escape(name)}"), amount(hard, pixel), amount(soft, pixel), change))
    unit_name = "pixels" if pictures else "ml"
    header = ("class", f"outlined, {unit_name}", f"expected, {unit_name}", "difference")
    parts = [tag("p", VOLUMES, class_="note"), table(header, listed, numbers=(1, 2, 3))]
    if absent:
        parts.append(tag("p", f"Not found in this image: {', '.join(absent)}."))
    return join(parts)


def _scores(result: CaseResult) -> Markup:
    if not result.scores:
        return tag("p", "The method gives no case score.")
    rows = [(kind.value, score(value), MEANINGS[kind]) for kind, value in result.scores.items()]
    parts = [table(("score", "value", "what it means"), rows, numbers=(1,))]
    if result.decision is not None and math.isfinite(result.decision.threshold):
        parts.append(tag("p", f"The limit for accepting is {result.decision.threshold:.3g}.", class_="note"))
    return join(parts)


__all__ = ["case_page", "describe_grid", "thumbnail", "write_case_report"]
