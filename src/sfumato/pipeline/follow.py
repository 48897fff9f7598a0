"""How an object is followed from one slice of a volume to the next, and when it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation
from torch import Tensor

from ..datasets.prompt_file import ObjectPrompt
from ..datasets.prompts import interior_point, tight_box
from ..errors import ConfigError

RING = 0.25
"""Width of an object's surroundings, as a share of the square root of its area."""


@dataclass(frozen=True)
class FollowOptions:
    """When an object is followed to the next slice.

    Args:
        least_iou: expected IoU below which it is lost.
        widening: of the last box on each side, as a share of its height or width; at least one pixel.
        largest_jump: ratio of the areas of neighbouring slices above which it is lost.
        least_overlap: IoU with the last mask below which it is lost.
    """

    least_iou: float = 0.5
    widening: float = 0.05
    largest_jump: float = 2.5
    least_overlap: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.least_iou <= 1 or not 0 <= self.least_overlap <= 1:
            raise ConfigError(
                f"least_iou={self.least_iou}, least_overlap={self.least_overlap}, expected numbers from 0 to 1."
            )
        if self.widening < 0 or self.largest_jump <= 1:
            raise ConfigError(
                f"widening={self.widening}, largest_jump={self.largest_jump}, expected 0 or more and more than 1."
            )


@dataclass(frozen=True)
class LastSlice:
    """What an object was on the last slice.

    Args:
        mask: (height, width).
        inside: mean intensity of the object, and its standard deviation.
        around: mean intensity of its surroundings.
    """

    mask: np.ndarray
    inside: tuple[float, float]
    around: float

    @staticmethod
    def of(plane: Float[Tensor, "channels height width"], mask: np.ndarray) -> LastSlice:
        """Measure an object, which must not be empty."""
        grey = plane.float().mean(dim=0).cpu().numpy()
        width = max(2, round(RING * float(mask.sum()) ** 0.5))
        ring = binary_dilation(mask, iterations=width) & ~mask
        object_ = grey[mask]
        around = float(grey[ring].mean()) if ring.any() else float("nan")
        return LastSlice(mask, (float(object_.mean()), float(object_.std())), around)

    def looks_like_surroundings(self, intensity: float) -> bool:
        """Whether an intensity is nearer to the surroundings than to the object, where the two differ clearly."""
        mean, spread = self.inside
        return abs(mean - self.around) > spread and abs(intensity - self.around) < abs(intensity - mean)


def follow_prompt(mask: np.ndarray, widening: float) -> ObjectPrompt:
    """The box of a mask, widened on each side, and its deepest pixel."""
    box = tight_box(mask)
    margin = np.maximum(1.0, widening * (box[1] - box[0] + 1))
    last = np.array(mask.shape) - 1.0
    (top, left), (bottom, right) = np.clip([box[0] - margin, box[1] + margin], 0, last).tolist()
    return ObjectPrompt("", ((*interior_point(mask), 1),), (top, left, bottom, right))


def overlap_with(
    masks: Bool[Tensor, "prompts hypotheses height width"], last: Sequence[np.ndarray]
) -> Float[Tensor, "prompts hypotheses"]:
    """IoU of every hypothesis with its object's last mask."""
    before = torch.from_numpy(np.stack(last))[:, None]
    both = (masks & before).flatten(2).sum(dim=2)
    return both / (masks | before).flatten(2).sum(dim=2).clamp(min=1)


def why_lost(
    last: LastSlice,
    plane: Float[Tensor, "channels height width"],
    mask: np.ndarray,
    expected_iou: float,
    overlap: float,
    options: FollowOptions,
) -> str:
    """Why an object is not followed to this mask; empty if it is."""
    area, before = int(mask.sum()), int(last.mask.sum())
    if not area:
        return "nothing was found"
    if expected_iou < options.least_iou:
        return f"the expected IoU is {expected_iou:.2f}, below {options.least_iou:g}"
    if max(area / before, before / area) > options.largest_jump:
        return f"the area jumps from {before} to {area} pixels"
    if overlap < options.least_overlap:
        return f"the mask overlaps the last one with an IoU of {overlap:.2f}, below {options.least_overlap:g}"
    if last.looks_like_surroundings(float(plane.float().mean(dim=0).cpu().numpy()[mask].mean())):
        return "the mask looks like what was around the object on the last slice"
    return ""
