"""One case in, one row out; whatever goes wrong with a case becomes a row that says so."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from ...datasets.corruption import CORRUPTIONS, SEVERITIES, corrupt_image
from ...errors import InputError, SfumatoError
from ...imaging import Image
from ...methods.sample_difficulty.agreement import label_agreement
from ...methods.sample_difficulty.contrast import boundary_contrast
from ...methods.sample_difficulty.neighbours import descriptor
from ...methods.sample_difficulty.quality import image_quality
from ...methods.sample_difficulty.spectrum import class_scales
from ...pipeline.prepare import prepare_label
from ...pipeline.slices import image_slices
from ...report.difficulty_thumbnail import case_thumbnail
from ...segmenters.extractors import FeatureExtractor
from .cases import ScoredCase
from .class_maps import ClassMaps
from .out_of_fold import OutOfFold
from .reading import ReadCase
from .table import CLASS_COLUMNS, ERROR, OK, Row, empty_row

SCALE = {c: c.removeprefix("class_").replace("classes", "name") for c in CLASS_COLUMNS}
"""Column -> field of `sfumato.methods.sample_difficulty.spectrum.ClassScale`."""
AGREEMENT = {
    "disagreement": "disagreement",
    "worst_disagreement": "worst",
    "expected_disagreement": "expected",
    "surprise": "surprise",
    "softmin": "softmin",
    "confident_share": "confident",
    "size_log_ratio": "size_log_ratio",
}
"""Column -> field of `sfumato.methods.sample_difficulty.agreement.Agreement`."""

COPY_SEED = 1
"""Of the damage done to copies; its severity turns with the case and the kind, so that all are learnt from."""
MOST_CLASSES = 128
"""More label values than this number objects, not classes."""


class CaseScorer:
    """Scores cases one by one; nothing it says of a case depends on another.

    Args:
        extractor: frozen network.
        maps: turns its features into class maps.
        out_of_fold: segmenters for what depends on the label; None leaves that undefined.
        data: folder that the paths of a row are relative to.
        channel: that the extractor sees, where it does not see three.
        instances: label files number objects; every value above 0 is foreground.
        thumbnails: keep a small picture.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        maps: ClassMaps,
        out_of_fold: OutOfFold | None = None,
        data: Path = Path(),
        channel: int = 0,
        instances: bool = False,
        thumbnails: bool = True,
    ):
        self.extractor, self.maps, self.out_of_fold = extractor, maps, out_of_fold
        self.data, self.channel, self.instances, self.thumbnails = data, channel, instances, thumbnails

    def row(self, case: ScoredCase, read: Callable[[], ReadCase]) -> Row:
        """The case's columns but those that need other cases; a failure is a row of status `error`.

        Args:
            case: which one.
            read: gives its image and label, or raises what reading raised.
        """
        start = time.perf_counter()
        row = empty_row() | self._identity(case)
        try:
            found = read()
            seen = seen_by_extractor(found.image, self.channel)
            row |= {"sha256": found.sha256} | self._image_columns(seen)
            row |= self._copy_columns(seen) if case.copied else {}
            row |= self._label_columns(case, found)
        except SfumatoError as error:
            row |= {"status": ERROR, "message": str(error)}
        except Exception as error:  # one case must never stop ten thousand
            said = f"{case.name}: {type(error).__name__}: {error}; look at this case's files."
            row |= {"status": ERROR, "message": said}
        return row | {"seconds": time.perf_counter() - start}

    def _identity(self, case: ScoredCase) -> Row:
        return {
            "case": case.name,
            "patient": case.patient,
            "split": case.split,
            "images": [self._relative(path) for path in case.images],
            "label": self._relative(case.label) if case.label else "",
            "label_status": "none",
            "extractor": self.extractor.card.key,
            "maps": self.maps.kind,
        }

    def _relative(self, path: Path) -> str:
        inside = path.is_relative_to(self.data)
        return (path.relative_to(self.data) if inside else path).as_posix()

    def _image_columns(self, image: Image) -> Row:
        stack, features = self._features(image)
        maps, present = self.maps.of(features)
        # A lone slice is one row, which has no spectrum; its own rows are taken instead, as another kind of score.
        axis = "D" if len(stack) > 1 else "H"
        scales = class_scales(maps, self.maps.names, present, axis)
        return {
            "status": worst_status([scale.status for scale in scales]),
            "shape": list(image.geometry.shape),
            "spacing": [round(s, 6) for s in image.geometry.spacing],
            "axis": axis,
            "slices": len(stack),
            **{column: [getattr(scale, field) for scale in scales] for column, field in SCALE.items()},
            "descriptor": descriptor(features).tolist(),
            "quality": list(image_quality(stack).values()),
            "voxels": int(np.prod(image.geometry.shape)),
        }

    def _features(self, image: Image) -> tuple[np.ndarray, Mapping[str, torch.Tensor]]:
        stack = image_slices(image).array
        return stack, self.extractor.features(torch.from_numpy(stack))

    def _copy_columns(self, image: Image) -> Row:
        row: Row = {"copy_kinds": list(CORRUPTIONS), "copy_descriptors": [], "copy_qualities": []}
        first = hashlib.sha256(image.name.encode()).digest()[0]
        for turn, kind in enumerate(CORRUPTIONS):
            severity = SEVERITIES[(first + turn) % len(SEVERITIES)]
            stack, features = self._features(corrupt_image(image, kind, severity, COPY_SEED))
            row["copy_descriptors"].append(descriptor(features).tolist())
            row["copy_qualities"].append(list(image_quality(stack).values()))
        return row

    def _label_columns(self, case: ScoredCase, found: ReadCase) -> Row:
        label = None if found.label is None else found.label.array
        row: Row = {}
        if found.label_problem:
            row |= {"label_status": ERROR, "label_message": found.label_problem}
        if self.thumbnails:
            row["thumbnail"] = case_thumbnail(found.image, label)
        if found.label is not None and label is not None:
            row |= {
                "label_status": OK if (label > 0).any() else "empty",
                "foreground_voxels": int((label > 0).sum()),
                **self._edges(found.image, label),
            }
        if self.out_of_fold is not None:
            row |= self._agreement(self.out_of_fold, case, found)
        return row

    def _edges(self, image: Image, label: np.ndarray) -> Row:
        seen = seen_by_extractor(image, self.channel)
        numbers = class_numbers(label, self.instances)
        found = boundary_contrast(seen.array, numbers, int(numbers.max()) + 1, image.geometry.spacing)
        return {"boundary_contrast": found.mean_step, "boundary_alignment": found.mean_alignment}

    def _agreement(self, out_of_fold: OutOfFold, case: ScoredCase, found: ReadCase) -> Row:
        try:
            probability, count = out_of_fold.probability(found.image, case.patient)
            if probability is None:
                return {"segmenters": 0}
            row: Row = {"segmenters": count, "predicted_voxels": float(probability[1:].sum())}
            if found.label is None:
                return row
            label = prepare_label(found.label, found.image, out_of_fold.spec, self.instances)
        except InputError as error:
            return {"label_status": ERROR, "label_message": str(error)}
        agreement = label_agreement(probability, label)
        return row | {column: float(getattr(agreement, name)) for column, name in AGREEMENT.items()}


def class_numbers(label: np.ndarray, instances: bool = False) -> np.ndarray:
    """Label values as class numbers 0, 1, ..., in their order; of instances, and of very many values, foreground alone.

    Example:
        >>> class_numbers(np.array([0, 255, 7])).tolist(), class_numbers(np.array([0, 3, 7]), instances=True).tolist()
        ([0, 2, 1], [0, 1, 1])
    """
    values = np.unique(label[label > 0])
    if instances or len(values) > MOST_CLASSES:
        return (label > 0).astype(np.int64)
    return np.where(label > 0, np.searchsorted(values, label) + 1, 0)


def worst_status(statuses: list[str]) -> str:
    """`ok` if any class map has a scale, else what is wrong with the first.

    Example:
        >>> worst_status(["empty", "ok"]), worst_status(["single"]), worst_status([])
        ('ok', 'single', 'empty')
    """
    return OK if OK in statuses else (statuses or ["empty"])[0]


def seen_by_extractor(image: Image, channel: int = 0) -> Image:
    """A picture in colour as it is; of everything else one channel.

    Raises:
        InputError: the image does not have that channel.
    """
    channels = image.array.shape[0]
    if channels == 3 and image.geometry.dims == 2:
        return image
    if channel >= channels:
        raise InputError(
            f"{image.name}: {channels} channels, expected more than --channel {channel}; choose one from 0."
        )
    return Image(image.array[channel : channel + 1], image.geometry, image.name)
