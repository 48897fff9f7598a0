"""A data set of discs that the phantom network segments well or badly, and a ladder of two phantoms."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato.segmenters.promptable.ladder import Ladder
from sfumato.segmenters.promptable.load import load_ladder

SIDES = 56, 64


def discs(draw, count=3, sides=SIDES):
    """A noisy picture of discs in [0, 255], some of two intensities, and its instance map."""
    rows, columns = np.mgrid[: sides[0], : sides[1]]
    image, label = np.full(sides, 40.0), np.zeros(sides, np.uint16)
    for number in range(1, count + 1):
        row, column, radius = (
            draw.integers(10, sides[0] - 10),
            draw.integers(10, sides[1] - 10),
            draw.integers(4, 10),
        )
        inside = np.hypot(rows - row, columns - column) <= radius
        image[inside] = draw.integers(110, 240)
        if draw.random() < 0.5:
            image[inside & (rows > row)] *= 0.8
        label[inside] = number
    return (image + draw.normal(0, 4, sides)).clip(0, 255).astype(np.uint8), label


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    draw = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        image, label = discs(draw)
        PillowImage.fromarray(image).save(folder / "images" / f"p{i:02}.png")
        PillowImage.fromarray(label).save(folder / "masks" / f"p{i:02}.png")
    return folder


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of 15 pictures with instance maps."""
    return write_pictures(tmp_path_factory.mktemp("discs") / "data", 15, 0)


def ball(depth=13, sides=(40, 44)):
    """An ellipsoid of radius 8 in its slices and 4 across them, in noise: image and mask (slices, rows, columns)."""
    z, rows, columns = np.mgrid[:depth, : sides[0], : sides[1]]
    mask = np.sqrt((2 * (z - depth // 2)) ** 2 + (rows - 18) ** 2 + (columns - 20) ** 2) <= 8
    noise = np.random.default_rng(0).normal(0, 2, mask.shape)
    return (30 + 150 * mask + noise).astype(np.float32), mask


@pytest.fixture
def volume(tmp_path) -> Path:
    """A NIfTI file whose thick slices lie along the second axis, with an oblique and anisotropic affine."""
    image, _ = ball()
    affine = np.array([[-0.8, 0, 0, 10], [0, 3.0, 0, -20], [0, 0, 0.7, 5], [0, 0, 0, 1]])
    path = tmp_path / "ball.nii.gz"
    nib.save(nib.Nifti1Image(np.moveaxis(image, 0, 1), affine), path)
    return path


@pytest.fixture(scope="session")
def ladder() -> Ladder:
    """Two phantoms, the cheaper one first."""
    return load_ladder(["phantom@64", "phantom@128"])


def prompts_file(folder: Path, content: dict) -> Path:
    path = folder / "prompts.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
