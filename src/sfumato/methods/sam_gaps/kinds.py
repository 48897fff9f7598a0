"""Which kind of prompt a row is."""

from __future__ import annotations

from ...errors import InputError
from ...segmenters.promptable.layouts import with_box
from ...types import SpatialPrompt


def prompt_kinds(prompts: SpatialPrompt) -> tuple[str, ...]:
    """The kind of each prompt, out of `PROMPT_KINDS`; how tight a box is cannot be seen.

    Raises:
        InputError: a mask without clicks or box.

    Example:
        >>> prompt_kinds(SpatialPrompt.of_points([[(3, 4, 1), (9, 9, 0)], [(5, 5, 1)]]))
        ('points', 'point')
    """
    found = []
    clicks = (prompts.signs >= 0).sum(dim=1).tolist()
    for row, (count, box) in enumerate(zip(clicks, with_box(prompts).tolist(), strict=True)):
        if not count and not box:
            raise InputError(f"Prompt {row} has neither click nor box, expected at least one of them.")
        clicked = "point" if count == 1 else "points"
        found.append(("box_and_point" if count else "box") if box else clicked)
    return tuple(found)
