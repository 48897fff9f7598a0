"""An image as the planes that a promptable network sees, and a label map cut alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...datasets import Case
from ...errors import InputError
from ...imaging import Image, read_image, read_label, same_grid
from ...pipeline.slices import Slices, image_slices, label_slices
from ..difficulty.case import seen_by_extractor


@dataclass(frozen=True)
class Planes:
    """An image and its planes.

    Args:
        image: as read.
        slices: of it; a picture is one slice.
    """

    image: Image
    slices: Slices

    def __len__(self) -> int:
        return len(self.slices.array)

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of a plane."""
        height, width = self.slices.array.shape[2:]
        return height, width

    @property
    def volume(self) -> bool:
        """Whether there are slices to choose from."""
        return self.slices.axis is not None

    def plane(self, index: int) -> Float[Tensor, "channels height width"]:
        """Intensities in [0, 1]."""
        return torch.from_numpy(self.slices.array[index])

    def to_grid(self, stack: np.ndarray) -> np.ndarray:
        """Maps (slices, height, width) on the file's own grid."""
        return stack[0] if self.slices.axis is None else np.moveaxis(stack, 0, self.slices.axis)


def read_planes(
    paths: Sequence[Path], name: str | None = None, channel: int = 0, resample: bool = False
) -> Planes:
    """Read an image and cut it; pictures in colour stay so, of everything else one channel is seen.

    Raises:
        InputError: unreadable, NaN or infinite voxels, or no such channel.
        GeometryError: a header that cannot be trusted.
    """
    image = read_image(paths, name, resample)
    return Planes(image, image_slices(seen_by_extractor(image, channel)))


def read_labelled(case: Case, channel: int = 0, resample: bool = False) -> tuple[Planes, np.ndarray]:
    """Planes of a case, and its label (slices, height, width).

    Raises:
        InputError: no label, or one on another grid; and see `read_planes`.
    """
    if case.label is None:
        raise InputError(f"{case.name}: no label, expected one; add it, or leave the case out.")
    planes = read_planes(case.images, case.name, channel, resample)
    label = read_label(case.label, case.name, resample)
    if not same_grid(planes.image.geometry, label.geometry):
        raise InputError(
            f"{case.name}: the label's grid {label.geometry.shape} does not lie on the image's "
            f"{planes.image.geometry.shape}, expected one grid; resample the label to the image or repair its header."
        )
    return planes, label_slices(label.array, planes.slices.axis)
