"""Seeded phantoms: blobs whose noise is known and whose edges are ambiguous by a known amount.

A voxel at signed distance d inside a blob's edge is labelled as the blob with probability
r = clip((d + edge) / (2 edge), 0, 1): the reader's edge lies off the true one by a shift that is uniform in
[-edge, edge], drawn once per blob. The image shows that same ramp: it is blurred where readers disagree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..imaging import Geometry, write_label_picture, write_nifti

GRIDS = {2: (24, 32), 3: (12, 16, 20)}
"""Default grids: sides differ, so that swapped axes show, and 4 divides them."""
TRIES = 20
"""Places tried for each blob."""
DARK, STEP = 60.0, 40.0
"""8-bit grey of level 0, and of each level more, in pictures."""


@dataclass(frozen=True)
class Phantom:
    """One phantom, with the fields of a training sample.

    Args:
        image: (channels, *grid) float32; class c has level c, plus Gaussian noise.
        label: (*grid) uint8, as one reader drew it.
        probability: (classes, *grid) float32: how often readers give a voxel each class.
        name: of the case.
        patient: the name again: phantoms are independent.
    """

    image: np.ndarray
    label: np.ndarray
    probability: np.ndarray
    name: str
    patient: str


def make_phantoms(
    count: int,
    spatial_dims: int,
    seed: int,
    classes: int = 2,
    noise: float = 0.3,
    edge: float = 1.5,
    channels: int = 1,
    grid: tuple[int, ...] | None = None,
) -> list[Phantom]:
    """Draw phantoms with one blob per foreground class; where blobs overlap, the later class wins.

    Args:
        count: how many; the n-th depends on the seed and n alone.
        spatial_dims: 2 or 3.
        seed: of everything random.
        classes: background included.
        noise: standard deviation of the noise, independent in every voxel and channel; classes are 1 apart.
        edge: half width of the ambiguous rim, voxels; 0 makes edges certain.
        channels: channels of the image, which differ in their noise.
        grid: at least 12 voxels a side; `GRIDS` by default.

    Raises:
        ConfigError: a grid, edge or number of classes that leaves no room for a blob.

    Example:
        >>> phantom = make_phantoms(1, spatial_dims=2, seed=0, classes=3)[0]
        >>> phantom.image.shape, phantom.probability.shape, np.unique(phantom.label).tolist()
        ((1, 24, 32), (3, 24, 32), [0, 1, 2])
    """
    grid = grid or GRIDS.get(spatial_dims, ())
    if (
        len(grid) != spatial_dims
        or min(grid, default=0) < 12
        or not 0 <= edge <= 2
        or classes < 2
        or noise < 0
    ):
        raise ConfigError(
            f"phantoms of grid={grid}, edge={edge}, classes={classes}, noise={noise}: expected 2 or 3 sides "
            "of at least 12 voxels, an edge from 0 to 2, at least 2 classes and noise from 0."
        )
    return [_phantom(index, seed, classes, noise, edge, channels, grid) for index in range(count)]


def _phantom(
    index: int, seed: int, classes: int, noise: float, edge: float, channels: int, grid: tuple[int, ...]
) -> Phantom:
    rng = np.random.default_rng([seed, index])
    label = np.zeros(grid, np.uint8)
    probability = np.zeros((classes, *grid), np.float32)
    probability[0] = 1
    centres: list[np.ndarray] = []
    for number in range(1, classes):
        depth = _blob_depth(rng, grid, centres)
        label[depth + rng.uniform(-edge, edge) > 0] = number
        ramp = np.clip((depth + edge) / (2 * edge), 0, 1) if edge else (depth > 0)
        probability *= 1 - ramp
        probability[number] = ramp
    levels = np.tensordot(np.arange(classes, dtype=np.float32), probability, axes=1)
    image = levels + noise * rng.standard_normal((channels, *grid), dtype=np.float32)
    name = f"phantom_{index:03d}"
    return Phantom(image.astype(np.float32), label, probability, name, name)


def _blob_depth(rng: np.random.Generator, grid: tuple[int, ...], centres: list[np.ndarray]) -> np.ndarray:
    """How many voxels each place lies inside a new blob, below 0 outside; its centre joins `centres`."""
    radius = rng.uniform(0.25, 0.4) * min(grid)
    candidates = rng.uniform(radius, np.array(grid) - 1 - radius, size=(TRIES, len(grid)))
    # Of several places the one farthest from the earlier blobs, so that no blob hides another.
    gaps = [min((float(np.linalg.norm(place - c)) for c in centres), default=0.0) for place in candidates]
    centre = candidates[int(np.argmax(gaps))]
    centres.append(centre)
    axes = np.meshgrid(*(np.arange(n) - c for n, c in zip(grid, centre, strict=True)), indexing="ij")
    return radius - np.sqrt(sum(axis**2 for axis in axes))


def write_phantoms(folder: Path, phantoms: Sequence[Phantom], affine: np.ndarray | None = None) -> None:
    """Write phantoms as a data set: `images/`, `masks/` and `dataset.json`.

    Args:
        folder: made if need be.
        phantoms: volumes become `.nii.gz`; pictures 8-bit `.png`, clipped, which takes one channel.
        affine: of the volumes; 1 mm, RAS, by default.

    Raises:
        ConfigError: pictures of several channels.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for phantom in phantoms:
        if phantom.label.ndim == 2:
            _write_picture(folder, phantom)
            continue
        geometry = Geometry(phantom.label.shape, np.eye(4) if affine is None else affine)
        write_nifti(folder / "images" / f"{phantom.name}.nii.gz", phantom.image, geometry)
        write_nifti(folder / "masks" / f"{phantom.name}.nii.gz", phantom.label, geometry)
    classes = max(len(phantom.probability) for phantom in phantoms)
    names = {"background": 0, **{f"blob {number}": number for number in range(1, classes)}}
    (folder / "dataset.json").write_text(json.dumps({"labels": names}, indent=2) + "\n", encoding="utf-8")


def _write_picture(folder: Path, phantom: Phantom) -> None:
    if len(phantom.image) != 1:
        raise ConfigError(f"{phantom.name}: {len(phantom.image)} channels, expected one in a picture.")
    grey = np.clip(np.rint(DARK + STEP * phantom.image[0]), 0, 255).astype(np.uint8)
    write_label_picture(folder / "images" / f"{phantom.name}.png", grey)
    write_label_picture(folder / "masks" / f"{phantom.name}.png", phantom.label)
