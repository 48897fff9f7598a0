"""Two-dimensional pictures: PNG, JPEG, BMP and TIFF in, PNG labels and TIFF maps out."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as PillowImage

from ..errors import InputError
from .geometry import Geometry
from .image import decoding

MAXIMUM_PIXELS = 178_956_970
"""Larger pictures are refused before they are decoded; it is where Pillow suspects a decompression bomb."""
AS_IT_IS = ("L", "I", "F", "RGB", "RGBA")
"""Pillow's modes that hold plain numbers; the 16-bit greys, I;16 and its byte orders, do as well."""
ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)


def read_picture(path: Path, indices: bool = False) -> tuple[np.ndarray, Geometry]:
    """Read a picture as (channels, H, W), in the file's own integer or float type.

    Palettes become colours, an alpha channel is dropped, one bit becomes 0 and 255. A rotation in EXIF data
    is not applied.

    Args:
        path: of the picture.
        indices: for label maps: keep the numbers of palette entries, and 0 and 1 of one-bit pictures.

    Raises:
        InputError: not a picture, truncated, too large, not of real numbers, or of more than one page.
    """
    with decoding(path, "picture"):
        read = _read_tiff if path.suffix.lower() in (".tif", ".tiff") else _read_pillow
        array = read(path, indices)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"{path.name}: array of shape {array.shape}, expected (H, W) or (H, W, channels).")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(1 if indices else 255)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{path.name}: pixels are of type {array.dtype}, expected real numbers.")
    return np.ascontiguousarray(np.moveaxis(array, 2, 0)), Geometry(tuple(array.shape[:2]))


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAXIMUM_PIXELS:
        raise InputError(
            f"{path.name}: {width} x {height} pixels, expected at most {MAXIMUM_PIXELS:,}; cut it into tiles."
        )


def _read_pillow(path: Path, indices: bool) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)  # our own limit follows
        with PillowImage.open(path) as picture:
            _check_size(path, *picture.size)
            pages = getattr(picture, "n_frames", 1)
            if pages > 1:
                raise InputError(f"{path.name}: {pages} pages, expected one; save that one.")
            array = np.array(_plain(picture, indices))
            return array[:, :, :3] if picture.mode == "RGBA" else array


def _plain(picture: PillowImage.Image, indices: bool) -> PillowImage.Image:
    if indices and picture.mode in ("P", "PA"):
        return picture.getchannel("P")
    if picture.mode in ("1", *AS_IT_IS) or picture.mode.startswith("I;16"):
        return picture
    return picture.convert("L" if picture.mode in ("LA", "La") else "RGB")


def _read_tiff(path: Path, indices: bool) -> np.ndarray:
    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise InputError(f"{path.name}: {len(file.pages)} pages, expected one; save that one.")
        page = file.pages.first
        _check_size(path, page.imagewidth, page.imagelength)
        try:
            array = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):  # a compression that tifffile leaves to an optional package
                return _read_pillow(path, indices)
            raise
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not indices and page.colormap is not None:
            array = np.moveaxis(page.colormap[:, array], 0, -1)
        elif page.axes == "SYX":
            array = np.moveaxis(array, 0, -1)
        alpha = sum(extra in ALPHA for extra in page.extrasamples)
        return array[:, :, : array.shape[2] - alpha] if array.ndim == 3 else array


def write_label_picture(path: Path, labels: np.ndarray) -> None:
    """Write (H, W) integer labels as an 8- or 16-bit PNG that keeps their values.

    Raises:
        InputError: values below 0 or above 65535.
    """
    low, high = int(labels.min(initial=0)), int(labels.max(initial=0))
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise InputError(f"{path.name}: label values from {low} to {high}, expected 0 to 65535 in a PNG.")
    PillowImage.fromarray(labels.astype(np.uint8 if high < 256 else np.uint16)).save(path, format="PNG")


def write_map_picture(path: Path, array: np.ndarray) -> None:
    """Write a float map (H, W) or (channels, H, W) as float32 TIFF, one page per channel."""
    pages = array.astype(np.float32)
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None, software="sfumato")


def picture_suffix(array: np.ndarray) -> str:
    """`.png` where a PNG can hold an image (channels, H, W) as it is, else `.tif`.

    Example:
        >>> picture_suffix(np.zeros((3, 4, 4), np.uint8)), picture_suffix(np.zeros((1, 4, 4), np.float32))
        ('.png', '.tif')
    """
    held = {(np.dtype(np.uint8), 1), (np.dtype(np.uint8), 3), (np.dtype(np.uint16), 1)}
    return ".png" if (array.dtype, len(array)) in held else ".tif"


def write_image_picture(path: Path, array: np.ndarray) -> None:
    """Write an image (channels, H, W) as one picture; `read_picture` gives the very same array back.

    Raises:
        InputError: a PNG that cannot hold it, see `picture_suffix`.
    """
    pixels = array[0] if len(array) == 1 else np.moveaxis(array, 0, -1)
    if path.suffix.lower() in (".tif", ".tiff"):
        kind = "rgb" if len(array) == 3 else "minisblack"
        plan = "contig" if len(array) > 1 else None
        tifffile.imwrite(path, pixels, photometric=kind, planarconfig=plan, metadata=None, software="sfumato")
    elif path.suffix.lower() == ".png" and picture_suffix(array) == ".png":
        PillowImage.fromarray(np.ascontiguousarray(pixels)).save(path, format="PNG")
    else:
        raise InputError(
            f"{path.name}: {array.dtype} of {len(array)} channels, expected 8-bit grey or colour or 16-bit grey "
            "in a PNG; write a .tif."
        )
