"""The page of an image that was segmented by a sentence: the mask with and without it, and what each word does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ..pipeline.result import CaseResult
from ..pipeline.text_answer import TextAnswer, Variant
from .case import describe_grid
from .figures import COLOURS, Panel, colour_bar, doubt_panel, heat
from .html import Markup, badge, join, page, picture, table, tag
from .text_parts import MaskPart, deepest, number_parts, words_by_part
from .thumbnail import grey_window, luminance, plane_colours
from .views import CONVENTION, View, views_of
from .worst import worst_centre

LEAST_SHOWN = 0.005
"""Words that move less of the mask get no picture, only a row."""
MOST_SHOWN = 9
MOST_NAMED = 3
"""Words whose change is told for each part of the mask."""
DETAILS = "details.html"
"""The page with decision, volumes and scores, as for every other method."""
OUTLINES = "Mask with the sentence, and without it"
IMAGE = "Doubt about the image, nats"
SHIFT = "What other words change"
EXPLAINED = (
    "Doubt about the image is the mean entropy over all sentences that were tried: it stays whatever is said. The last "
    "column is the mean change of the probability over these sentences: where it is bright, the words decide. The "
    "cross marks where they decide most."
)
PATIENT_SIDES = (
    "Left and right in the sentence are the patient's: the patient's left (L) is on the right of the picture."
)
WORDS = (
    "The sentence was segmented once more without each of its words. Bright is what the word changes. These are "
    "measured effects, not the network's attention, which is spread over tokens into which all words are mixed."
)
PARTS = (
    "For each connected part of the mask, the word without which the probability inside changes most on average: 1 is "
    "a part that is lost without the word, 0 one that stays as it is."
)


def write_text_report(path: Path, answer: TextAnswer, facts: Mapping[str, str], sides: str = "image") -> None:
    """Write the page of a case as one HTML file that needs nothing else; equal input gives equal bytes.

    Args:
        path: of the file.
        answer: the finished case.
        facts: shown in the footer; no times.
        sides: whose left a sentence means on pictures, `image` or `patient`.
    """
    path.write_text(text_page(answer, facts, sides), encoding="utf-8", newline="\n")


def text_page(answer: TextAnswer, facts: Mapping[str, str], sides: str = "image") -> str:
    """The page as text; see `write_text_report`."""
    result = answer.result
    views = _views(answer)
    window = grey_window(result.image, views)
    convention = (
        CONVENTION if result.image.geometry.dims == 3 else PATIENT_SIDES if sides == "patient" else ""
    )
    return page(
        result.image.name,
        _head(answer),
        *(tag("p", tag("b", "Warning: "), text, class_="warning") for text in result.warnings),
        tag("h2", "Where the mask lies, and why"),
        _panels(answer, views, window, sides == "patient"),
        tag("p", EXPLAINED, class_="note"),
        *((tag("p", convention, class_="note"),) if convention else ()),
        *_variants(answer),
        *_words(answer, views[0], window),
        tag("p", tag("a", "Decision, volumes and scores", href=DETAILS)),
        facts=facts,
    )


def _head(answer: TextAnswer) -> Markup:
    result = answer.result
    verdict = result.decision.verdict if result.decision else None
    said = f"“{answer.sentence}”" if answer.sentence else "Segmented without a sentence."
    parts = [
        tag("div", badge(verdict), tag("h1", result.image.name), class_="head"),
        tag("p", tag("b", said)),
    ]
    if result.decision:
        parts.append(tag("p", result.decision.reason))
    return join([*parts, tag("p", describe_grid(result.image.geometry), class_="note")])


def _views(answer: TextAnswer) -> tuple[View, ...]:
    """Through the place that depends most on the words; both masks are in the picture."""
    result = answer.result
    either = (result.segmentation > 0) | (answer.without > 0)
    centre, _ = worst_centre(answer.shift, result.image.geometry.spacing, either)
    return views_of(result.image.geometry, centre, either.astype(np.uint8))


def _panels(
    answer: TextAnswer, views: Sequence[View], window: tuple[float, float], patient_sides: bool
) -> Markup:
    most = math.log(len(answer.result.classes))
    below = (
        _legend(answer),
        picture(colour_bar(heat(), 0.0, most), f"Colour bar, 0 to {most:.2g} nats"),
        picture(colour_bar(heat(), 0.0, 1.0), "Colour bar, 0 to 1"),
    )
    titles = (OUTLINES, IMAGE, SHIFT)
    cells = [
        tag("div", tag("h3", title), under, class_="top") for title, under in zip(titles, below, strict=True)
    ]
    for view in views:
        colours = plane_colours(answer.result.image, view, window)
        grey = luminance(colours)
        drawn = (
            outline_panel(view, colours, answer, patient_sides),
            doubt_panel(view, grey, view.take(answer.image_doubt), 0.0, most),
            doubt_panel(view, grey, view.take(answer.shift), 0.0, 1.0),
        )
        cells += [
            tag("div", picture(png, f"{view.title}: {title}"), class_="panel")
            for png, title in zip(drawn, titles, strict=True)
        ]
    return tag("div", join(cells), class_="views")


def outline_panel(view: View, colours: np.ndarray, answer: TextAnswer, patient_sides: bool = False) -> bytes:
    """The image (rows, columns) or (rows, columns, 3) in [0, 1] with both masks' outlines; PNG.

    Parts of a picture's mask are numbered where there are several; with the patient's sides, letters name them.
    """
    panel = Panel(view, colours)
    panel.show(colours, "gray")
    panel.outline(2 * (view.take(answer.without) > 0).astype(np.uint8))
    panel.outline((view.take(answer.result.segmentation) > 0).astype(np.uint8))
    panel.mark()
    rows, columns = colours.shape[:2]
    if patient_sides and view.letters is None:
        panel.name(rows / 2, 0.04 * columns, "R")
        panel.name(rows / 2, 0.96 * columns, "L")
    numbers = view.take(_numbers(answer))
    for number in range(1, int(numbers.max()) + 1) if numbers.max() > 1 else ():
        if (numbers == number).any():
            panel.name(*deepest(numbers == number), str(number))
    return panel.png()


def _numbers(answer: TextAnswer) -> np.ndarray:
    """Of the parts of the mask, where their words are known."""
    mask = answer.result.segmentation > 0
    return number_parts(mask) if answer.words else np.zeros(mask.shape, np.uint8)


def _legend(answer: TextAnswer) -> Markup:
    entries = ["with the sentence", "without"] if answer.sentence else ["without a sentence"]
    named = [
        Markup(f'<span><i class="key"><i style="border-top: 3px solid {colour}"></i></i>{entry}</span>')
        for entry, colour in zip(entries, COLOURS, strict=False)
    ]
    return tag("small", join(named, " "), class_="legend")


def _variants(answer: TextAnswer) -> list[Markup]:
    if not answer.variants:
        return []
    rows = [(variant.text, f"{variant.moved:.0%}") for variant in answer.variants]
    lead = f"Contradiction of image and sentence: {answer.contradiction.score:.2f} of 1."
    return [
        tag("h2", "Without a sentence, and with other ones"),
        table(("sentence", "mask that moves, 1 - Dice"), rows, numbers=(1,)),
        tag("p", lead, " How far the masks with and without it lie apart in what it says."),
    ]


def _words(answer: TextAnswer, view: View, window: tuple[float, float]) -> list[Markup]:
    if not answer.words:
        return []
    moving = [word for word in answer.words if word.moved >= LEAST_SHOWN and word.shift is not None]
    shown = sorted(moving, key=lambda word: -word.moved)[:MOST_SHOWN]
    rows = [(word.text, f"{word.moved:.0%}") for word in answer.words]
    return [
        *_parts(words_by_part(_numbers(answer), answer.words)),
        tag("h2", "What each word does"),
        tag("p", WORDS, class_="note"),
        tag("div", join(_word(answer.result, view, window, word) for word in shown), class_="gallery"),
        table(("without the word", "mask that moves, 1 - Dice"), rows, numbers=(1,)),
    ]


def _parts(parts: Sequence[MaskPart]) -> list[Markup]:
    if not parts:
        return []
    rows = [
        (
            str(part.number) if len(parts) > 1 else "the whole mask",
            f"{part.pixels:,}",
            tag("b", part.deciding),
            ", ".join(f"{word} {change:.2f}" for word, change in part.changes[:MOST_NAMED]),
        )
        for part in parts
    ]
    return [
        tag("h2", "Which word each part of the mask hangs on"),
        tag("p", PARTS, class_="note"),
        table(("part of the mask", "pixels", "hangs most on", "change without the word"), rows, numbers=(1,)),
    ]


def _word(result: CaseResult, view: View, window: tuple[float, float], word: Variant) -> Markup:
    assert word.shift is not None
    grey = luminance(plane_colours(result.image, view, window))
    png = doubt_panel(view, grey, view.take(np.abs(word.shift)), 0.0, 1.0)
    return tag(
        "figure",
        tag("div", picture(png, f"Change without the word {word.text}"), class_="panel"),
        tag("h3", word.text),
        tag("small", f"moves {word.moved:.0%} of the mask"),
    )
