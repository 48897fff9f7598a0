"""Images and label maps: arrays that know where they lie; two types, as they resample differently."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, SfumatoError
from .geometry import Geometry


@dataclass(frozen=True)
class Image:
    """Intensities: array (channels, *grid), float32 or the file's own integer type."""

    array: np.ndarray
    geometry: Geometry
    name: str = "image"


@dataclass(frozen=True)
class LabelMap:
    """Integer labels: array (*grid)."""

    array: np.ndarray
    geometry: Geometry
    name: str = "label map"


PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUMES = (".nii.gz", ".nii")
READABLE = (*VOLUMES, *PICTURES)


def suffix_of(path: str | Path) -> str:
    """The file's ending among those we read, or an empty string.

    Example:
        >>> suffix_of("brain.T1.nii.gz"), suffix_of("notes.txt")
        ('.nii.gz', '')
    """
    name = Path(path).name.lower()
    return next((s for s in READABLE if name.endswith(s)), "")


def stem_of(path: str | Path) -> str:
    """The file's name without the ending that tells its format.

    Example:
        >>> stem_of("data/brain.T1.nii.gz")
        'brain.T1'
    """
    name = Path(path).name
    return name[: len(name) - len(suffix_of(name))]


@contextmanager
def decoding(path: Path, format_name: str) -> Iterator[None]:
    """Whatever a decoder raises becomes one sentence.

    Raises:
        InputError: names the file and what the decoder said.
    """
    try:
        yield
    except SfumatoError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path.name}: there is no such file; check the path {path}.") from error
    except Exception as error:
        # On damaged bytes decoders raise struct.error, KeyError, IndexError, MemoryError and more.
        said = textwrap.shorten(str(error).replace(str(path), path.name), 200)
        raise InputError(
            f"{path.name}: not a readable {format_name} ({type(error).__name__}: {said}); it may be truncated "
            "or damaged, export it again."
        ) from error


def check_finite(array: np.ndarray, name: str) -> None:
    """Refuse NaN and infinite voxels, saying how many there are.

    Raises:
        InputError: names the case and counts the voxels.
    """
    if np.issubdtype(array.dtype, np.floating):
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            raise InputError(
                f"{name}: {bad} of {array.size} voxels are NaN or infinite, expected finite numbers; "
                "clean the image first."
            )
