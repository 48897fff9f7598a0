"""What the parts of a data set share and should not: patients, images that look alike, and the very same sentences.

Any of these makes a test easier than a new patient is. Shared sentences cannot always be avoided, where they are made
from a template; how many there are belongs beside a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ..errors import ConfigError, InputError
from ..imaging import read_image
from .splits import SPLIT_NAMES, SplitName, Splits
from .text_table import TextTable

SIDE = 16
"""Images are compared at this many pixels along each axis."""
SIMILAR = 0.97
"""Of 317 colonoscopy frames (CVC-ClinicDB, 15 sequences), 57% correlate so with another frame of their own sequence,
and 2% with one of another."""


@dataclass(frozen=True)
class SimilarImages:
    """Two cases of different parts whose images correlate, from -1 to 1."""

    first: str
    second: str
    correlation: float


@dataclass(frozen=True)
class LeakReport:
    """What is on both sides of a split.

    Args:
        patients: patient -> the parts that have cases of it, where there are several.
        images: pairs from different parts that look alike, the most similar first.
        sentences: sentence -> the cases it is written of, where these are in several parts; in lower case.
        repeated: share of the test cases with text whose sentence is also one of a training case, 0 to 1.
        unread: cases whose image could not be compared, as it cannot be read.
    """

    patients: Mapping[str, tuple[SplitName, ...]]
    images: tuple[SimilarImages, ...]
    sentences: Mapping[str, tuple[str, ...]]
    repeated: float
    unread: tuple[str, ...] = ()

    def warnings(self) -> tuple[str, ...]:
        """One sentence for each kind of leak that was found."""
        found = []
        if self.patients:
            found.append(
                f"{len(self.patients)} patients are in several parts, as {next(iter(self.patients))!r}; split by "
                "patient."
            )
        if self.images:
            pair = self.images[0]
            found.append(
                f"{len(self.images)} pairs of images from different parts look alike, as {pair.first!r} and "
                f"{pair.second!r} (correlation {pair.correlation:.3f}); keep them in one part."
            )
        if self.sentences:
            found.append(
                f"{len(self.sentences)} sentences are written in several parts, and {self.repeated:.0%} of the test "
                "cases have one of a training case; say so beside results."
            )
        if self.unread:
            found.append(
                f"{len(self.unread)} images cannot be read and were not compared, as that of {self.unread[0]!r}."
            )
        return tuple(found)


def find_leaks(
    table: TextTable, splits: Splits, level: str | None = None, similar: float = SIMILAR
) -> LeakReport:
    """Look for what the parts of a split share.

    Args:
        table: the cases; their images are read one by one.
        splits: which case is in which part.
        level: of detail of the sentences; may be left out where there is but one.
        similar: correlation at which two images look alike, above 0 and at most 1. They are compared as grey images of
            16 pixels along each axis, so that cropping or compression hides nothing; pictures and volumes are not
            compared with each other, and constant images resemble none.

    Raises:
        ConfigError: a correlation outside of its range, or no level where there are several.
        UnknownNameError: a case or level that the table does not have.
    """
    if not 0 < similar <= 1:
        raise ConfigError(f"similar={similar}, expected a correlation above 0 and at most 1.")
    part_of: dict[str, SplitName] = {name: part for part in SPLIT_NAMES for name in splits[part]}
    texts = {name: _normal(table.sentence(name, level)) for name in part_of}
    known = {texts[name] for name in splits.train}
    told = [texts[name] for name in splits.test if texts[name]]
    small, unread = _small_images(table, list(part_of))
    return LeakReport(
        {patient: parts for patient, parts in _parts_by_patient(table, part_of).items() if len(parts) > 1},
        tuple(sorted(_similar_pairs(small, splits, similar), key=lambda pair: -pair.correlation)),
        _in_several_parts(texts, part_of),
        sum(text in known for text in told) / len(told) if told else 0.0,
        unread,
    )


def _normal(sentence: str | None) -> str:
    return (sentence or "").lower().rstrip(". ")


def _parts_by_patient(table: TextTable, part_of: Mapping[str, SplitName]) -> dict[str, tuple[SplitName, ...]]:
    found: dict[str, set[SplitName]] = {}
    for name, part in part_of.items():
        found.setdefault(table.cases[name].case.patient, set()).add(part)
    return {patient: tuple(p for p in SPLIT_NAMES if p in found[patient]) for patient in sorted(found)}


def _in_several_parts(
    texts: Mapping[str, str], part_of: Mapping[str, SplitName]
) -> dict[str, tuple[str, ...]]:
    cases: dict[str, list[str]] = {}
    for name in sorted(texts):
        if texts[name]:
            cases.setdefault(texts[name], []).append(name)
    return {text: tuple(cases[text]) for text in sorted(cases) if len({part_of[n] for n in cases[text]}) > 1}


def _small_images(table: TextTable, names: Sequence[str]) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Vectors of all images that can be read, and the names of the others."""
    small, unread = {}, []
    for name in names:
        try:
            small[name] = small_image(read_image(table.cases[name].case.images, name).array)
        except InputError:  # whoever uses the case says what is wrong with it
            unread.append(name)
    return small, tuple(unread)


def _similar_pairs(
    small: Mapping[str, np.ndarray], splits: Splits, similar: float
) -> Iterator[SimilarImages]:
    for one, other in combinations(SPLIT_NAMES, 2):
        for size in sorted({vector.size for vector in small.values()}):
            first, second = (
                [n for n in splits[part] if n in small and small[n].size == size] for part in (one, other)
            )
            if first and second:
                correlation = np.stack([small[n] for n in first]) @ np.stack([small[n] for n in second]).T
                for i, j in np.argwhere(correlation >= similar):
                    yield SimilarImages(first[i], second[j], float(correlation[i, j]))


def small_image(array: np.ndarray) -> np.ndarray:
    """An image as a vector of mean 0 and length 1, so that a product of two is their correlation.

    Args:
        array: (channels, *grid), of which the channels are averaged.

    Returns:
        (16 ** axes), float64: means of blocks, or the nearest pixels where there are fewer than 16; all 0 for a
        constant image.
    """
    grey = array.mean(axis=0, dtype=np.float64)
    for axis, length in enumerate(grey.shape):
        starts = np.arange(SIDE) * length // SIDE
        widths = np.maximum(np.diff(np.append(starts, length)), 1)
        shape = [-1 if other == axis else 1 for other in range(grey.ndim)]
        # Where two blocks start at one pixel, reduceat gives that pixel.
        grey = np.add.reduceat(grey, starts, axis=axis) / widths.reshape(shape)
    vector = grey.ravel() - grey.mean()
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-9 * max(1.0, float(np.abs(grey).max())) else np.zeros_like(vector)
