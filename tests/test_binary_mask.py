"""One mask, however its file writes it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sfumato.datasets.binary_mask import read_binary_mask
from sfumato.errors import InputError
from sfumato.imaging import write_nifti
from sfumato.imaging.geometry import Geometry

LEFT_THIRD = np.zeros((10, 15), dtype=np.uint8)
LEFT_THIRD[:, :5] = 1


def saved(folder, kind):
    noise = np.random.default_rng(0).integers(0, 6, LEFT_THIRD.shape).astype(np.uint8)
    if kind == "nifti":
        path = folder / "mask.nii.gz"
        volume = LEFT_THIRD[:, :, None]
        write_nifti(path, volume, Geometry(volume.shape))
        return path
    grey = {"one": LEFT_THIRD, "near": np.where(LEFT_THIRD, 255 - noise, noise)}.get(
        kind, LEFT_THIRD * np.uint8(255)
    )
    picture = Image.fromarray(grey)
    path = folder / ("mask.jpg" if kind == "jpeg" else "mask.png")
    modes = {"colour": "RGB", "jpeg": "RGB", "bit": "1"}
    (picture.convert(modes[kind]) if kind in modes else picture).save(path)
    return path


@pytest.mark.parametrize("kind", ["one", "full", "near", "colour", "jpeg", "bit", "nifti"])
def test_every_coding_gives_the_same_mask_on_the_same_axes(tmp_path, kind):
    mask = read_binary_mask(saved(tmp_path, kind))
    np.testing.assert_array_equal(mask.array.reshape(LEFT_THIRD.shape), LEFT_THIRD)
    assert mask.array.dtype == np.int32


def test_sixteen_bits_and_nothing_at_all(tmp_path):
    Image.fromarray(LEFT_THIRD.astype(np.uint16) * 65535).save(tmp_path / "wide.png")
    np.testing.assert_array_equal(read_binary_mask(tmp_path / "wide.png").array, LEFT_THIRD)
    Image.fromarray(np.zeros_like(LEFT_THIRD)).save(tmp_path / "empty.png")
    assert not read_binary_mask(tmp_path / "empty.png").array.any()


@pytest.mark.parametrize(("value", "said"), [(3, "from 0 to 3"), (127, "from 0 to 127")])
def test_numbered_classes_are_no_mask(tmp_path, value, said):
    Image.fromarray(LEFT_THIRD * np.uint8(value)).save(tmp_path / "classes.png")
    with pytest.raises(InputError, match=said):
        read_binary_mask(tmp_path / "classes.png")


def test_colours_are_no_mask(tmp_path):
    red = np.zeros((*LEFT_THIRD.shape, 3), dtype=np.uint8)
    red[..., 0] = LEFT_THIRD * 255
    Image.fromarray(red).save(tmp_path / "red.png")
    with pytest.raises(InputError, match="differ by up to 100%"):
        read_binary_mask(tmp_path / "red.png")
