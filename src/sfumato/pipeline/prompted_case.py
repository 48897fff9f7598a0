"""One image and what somebody points at: masks and maps on all its slices, for pictures and volumes alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..datasets.prompt_file import ObjectPrompt, check_prompts
from ..imaging import Image
from ..segmenters.promptable import PromptableSegmenter
from .follow import FollowOptions
from .prompted_plane import Assess, ObjectAnswer, joined, uncalibrated
from .prompted_volume import FollowedObject, VolumeEstimate, follow_objects, volume_estimate
from .slices import Slices


@dataclass(frozen=True)
class Judge:
    """Who tells the expected IoU.

    Args:
        assess: what is expected of the masks.
        larger: name of the network that the model gap is about; None without one.
    """

    assess: Assess
    larger: str | None = None


@dataclass(frozen=True)
class PromptedCase:
    """A finished case.

    Args:
        image: as read.
        slices: of it, as the network saw them; a picture is one slice.
        objects: in the order in which they were given.
        labels: (slices, height, width) number of the object, 1 for the first; 0 none.
        probability: likewise, the largest of all objects', uint8 codes of 1/255.
        entropy: likewise in bits.
        calibrated: whether heads told the expected IoU; else it is the network's own estimate.
        larger: name of the network that the model gap is about; None without one.
    """

    image: Image
    slices: Slices
    objects: tuple[FollowedObject, ...]
    labels: np.ndarray
    probability: np.ndarray
    entropy: np.ndarray
    calibrated: bool
    larger: str | None = None

    @property
    def volume(self) -> bool:
        """Whether there are slices."""
        return self.slices.axis is not None

    def to_grid(self, stack: np.ndarray) -> np.ndarray:
        """Maps (slices, height, width) on the file's own grid."""
        return stack[0] if self.slices.axis is None else np.moveaxis(stack, 0, self.slices.axis)

    def worst(self, found: FollowedObject) -> ObjectAnswer:
        """The answer of an object with the lowest expected IoU, of those that somebody pointed at."""
        return min(found.answers.values(), key=lambda answer: answer.kept.expected_iou)

    def estimate(self, found: FollowedObject) -> VolumeEstimate:
        """Expected IoU and Dice of the whole object, see `volume_estimate`; of a picture, of its one mask."""
        areas = [float(kept.mask.sum()) for kept in found.slices.values()]
        return volume_estimate(areas, [kept.expected_iou for kept in found.slices.values()])


def segment_prompted(
    network: PromptableSegmenter,
    image: Image,
    slices: Slices,
    prompts: Sequence[ObjectPrompt],
    judge: Judge | None = None,
    options: FollowOptions | None = None,
    advise: bool = True,
) -> PromptedCase:
    """Segment what is pointed at.

    Args:
        network: encodes and answers.
        image: as read.
        slices: of it.
        prompts: one per object, or several with slices in a volume.
        judge: tells the expected IoU; None takes the network's own estimates.
        options: when objects of a volume are followed.
        advise: look one click ahead.

    Raises:
        InputError: prompts that do not fit the image.
    """
    count, sides = len(slices.array), (slices.array.shape[2], slices.array.shape[3])
    check_prompts(prompts, sides, None if slices.axis is None else count, slices.name)
    placed = [replace(prompt, plane=0) for prompt in prompts] if slices.axis is None else prompts
    objects = follow_objects(
        network,
        lambda index: torch.from_numpy(slices.array[index]),
        count,
        placed,
        judge.assess if judge else uncalibrated,
        options,
        advise,
    )
    maps = [joined([found.slices.get(index) for found in objects], sides) for index in range(count)]
    labels, probability, entropy = (np.stack(stack) for stack in zip(*maps, strict=True))
    larger = judge.larger if judge else None
    return PromptedCase(
        image, slices, tuple(objects), labels, probability, entropy, judge is not None, larger
    )
