"""A volume slice by slice: objects are pointed at on some slices and followed to the others, in both directions.

On the next slice an object is asked for by the box of its last mask, a little wider, and the mask's deepest pixel. Of
the three answers the one is taken that is both expected to be good and most like the last mask, as the task does not
change between slices. An object is lost where nothing is found, where the mask jumps, or where its expected IoU is too
low, see `follow`. Two sweeps over the slices serve all objects, so that a slice is encoded three times at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..datasets.prompt_file import ObjectPrompt, spatial_rows
from ..errors import InputError
from ..segmenters.promptable import PromptableSegmenter
from .follow import FollowOptions, LastSlice, follow_prompt, overlap_with, why_lost
from .prompted_plane import Assess, ObjectAnswer, PlaneMask, answer_plane, keep_masks, uncalibrated

FOLLOWED = "box_and_point"
"""Kind of the prompts of followed slices."""


@dataclass
class FollowedObject:
    """One object of a volume.

    Args:
        name: of the object.
        answers: by slice that it was pointed at.
        slices: its mask by slice; slices without it are left out.
        ends: sentences on why it was not followed further, by `first` and `last`.
    """

    name: str
    answers: dict[int, ObjectAnswer] = field(default_factory=dict)
    slices: dict[int, PlaneMask] = field(default_factory=dict)
    ends: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class VolumeEstimate:
    """What the slices' expected IoUs say of the whole object; slices wrongly left empty are not seen by it."""

    iou: float
    dice: float


def volume_estimate(areas: Sequence[float], expected_iou: Sequence[float]) -> VolumeEstimate:
    """IoU and Dice of a volume from slices, assuming that their areas are right on average.

    With area A and IoU q of a slice, mask and truth have the union 2 A / (1 + q) and the intersection
    2 A q / (1 + q); the volume's IoU is the ratio of their sums, its Dice sum of A 2 q / (1 + q) / sum of A.

    Args:
        areas: of the slices' masks, in any unit.
        expected_iou: of these masks.

    Returns:
        NaN where there is no area.

    Example:
        >>> volume_estimate([100, 50], [0.5, 0.5]).iou, round(volume_estimate([100, 50], [0.5, 0.5]).dice, 4)
        (0.5, 0.6667)
    """
    area, q = np.asarray(areas, dtype=float), np.asarray(expected_iou, dtype=float)
    if not area.sum() > 0:
        return VolumeEstimate(float("nan"), float("nan"))
    union, intersection = (2 * area / (1 + q)).sum(), (2 * area * q / (1 + q)).sum()
    return VolumeEstimate(float(intersection / union), float(intersection / area.sum()))


def follow_objects(
    network: PromptableSegmenter,
    plane: Callable[[int], Float[Tensor, "channels height width"]],
    count: int,
    prompts: Sequence[ObjectPrompt],
    assess: Assess = uncalibrated,
    options: FollowOptions | None = None,
    advise: bool = True,
) -> list[FollowedObject]:
    """Segment objects of a volume from prompts on one or several slices each.

    Args:
        network: encodes and answers.
        plane: intensities of a slice in [0, 1], by its number.
        count: slices there are.
        prompts: objects of one name on several slices are one object.
        assess: what is expected of the masks.
        options: see `FollowOptions`.
        advise: look one click ahead on the slices that were pointed at.

    Returns:
        One entry per name, in the order in which they come.

    Raises:
        InputError: no prompts, or one without a slice.
    """
    options = options or FollowOptions()
    if not prompts or any(prompt.plane is None for prompt in prompts):
        raise InputError(f"{len(prompts)} prompts, expected at least one, each with the slice it lies on.")
    objects = {prompt.name: FollowedObject(prompt.name) for prompt in prompts}
    for index in sorted({prompt.plane for prompt in prompts if prompt.plane is not None}):
        asked = [prompt for prompt in prompts if prompt.plane == index]
        for found in answer_plane(network, network.encode(plane(index)), asked, assess, advise):
            objects[found.prompt.name].answers[index] = found
    sweeps = (("last", range(count)), ("first", range(count - 1, -1, -1)))
    for end, order in sweeps:
        for name, index, kept in _sweep(network, plane, order, objects, end, assess, options):
            before = objects[name].slices.get(index)
            if before is None or kept.expected_iou > before.expected_iou:
                objects[name].slices[index] = kept
    for found in objects.values():
        given = {i: a.kept for i, a in found.answers.items() if a.kept.mask.any()}
        found.slices = dict(sorted((found.slices | given).items()))
    return list(objects.values())


def _sweep(
    network: PromptableSegmenter,
    plane: Callable[[int], Tensor],
    order: Sequence[int],
    objects: Mapping[str, FollowedObject],
    end: str,
    assess: Assess,
    options: FollowOptions,
) -> Iterator[tuple[str, int, PlaneMask]]:
    """Follow all objects in one direction; yields each one's mask on the slices that nobody pointed at."""
    last: dict[str, LastSlice] = {}
    for index in order:
        active = [name for name in last if index not in objects[name].answers]
        if active:
            seen = plane(index)
            found = _follow(network, seen, [last[name] for name in active], assess, options)
            for name, (kept, reason) in zip(active, found, strict=True):
                if kept is None:
                    objects[name].ends[end] = f"slice {index}: {reason}"
                    del last[name]
                else:
                    last[name] = LastSlice.of(seen, kept.mask)
                    yield name, index, kept
        for name, found_object in objects.items():
            answer = found_object.answers.get(index)
            if answer is None:
                continue
            found_object.ends.pop(end, None)
            last.pop(name, None)
            if answer.kept.mask.any():
                last[name] = LastSlice.of(plane(index), answer.kept.mask)


def _follow(
    network: PromptableSegmenter,
    plane: Float[Tensor, "channels height width"],
    last: Sequence[LastSlice],
    assess: Assess,
    options: FollowOptions,
) -> list[tuple[PlaneMask | None, str]]:
    """Every object's mask on the next slice, or None and why it is lost."""
    asked = spatial_rows([follow_prompt(before.mask, options.widening) for before in last])
    decoded = network.decode(network.encode(plane), asked)
    found = assess(decoded, [FOLLOWED] * len(last))
    overlap = overlap_with(decoded.masks().cpu(), [before.mask for before in last])
    chosen = (found.expected_iou * overlap).argmax(dim=1)
    answers = []
    for row, kept in enumerate(keep_masks(decoded, found, chosen)):
        reason = why_lost(
            last[row], plane, kept.mask, kept.expected_iou, float(overlap[row, chosen[row]]), options
        )
        answers.append((None if reason else kept, reason))
    return answers
