"""A case's files in memory: the image must be readable, the label may fail."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ...errors import InputError
from ...imaging import Image, LabelMap, read_image, read_label, same_grid
from .cases import ScoredCase


@dataclass(frozen=True)
class ReadCase:
    """A case as read: `label_problem` says why there is no label though a file is named."""

    image: Image
    sha256: str
    label: LabelMap | None = None
    label_problem: str = ""


def read_case(case: ScoredCase, resample: bool = False) -> ReadCase:
    """Read image and label; a label that cannot be used does not stand in the image's way.

    Raises:
        InputError: an image that cannot be read, or that has NaN or infinite voxels.
    """
    if case.problem:
        raise InputError(case.problem)
    image = read_image(case.images, case.name, resample)
    digest = hashlib.sha256()
    for path in case.images:
        digest.update(path.read_bytes())
    if case.label is None:
        return ReadCase(image, digest.hexdigest())
    try:
        label = read_label(case.label, case.name, resample)
        if not same_grid(image.geometry, label.geometry):
            raise InputError(
                f"{case.name}: the label's grid {label.geometry.shape} does not lie on the image's "
                f"{image.geometry.shape}, expected one grid; resample the label to the image or repair its header."
            )
    except InputError as error:
        return ReadCase(image, digest.hexdigest(), None, str(error))
    return ReadCase(image, digest.hexdigest(), label)
