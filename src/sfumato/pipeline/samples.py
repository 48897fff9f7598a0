"""A data set's cases as training samples: read, checked, prepared on the network's grid."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..datasets import Case
from ..errors import InputError, SfumatoError
from ..imaging import read_image, read_label
from ..segmenters.spec import SegmenterSpec
from ..training.samples import Sample
from .prepare import prepare_image, prepare_label


@dataclass(frozen=True)
class Gathered:
    """Samples that could be used, and one sentence for each case that could not."""

    samples: tuple[Sample, ...]
    problems: tuple[str, ...]


def gather_samples(
    cases: Iterable[Case], spec: SegmenterSpec, instances: bool = False, resample: bool = False
) -> Gathered:
    """Read and prepare labelled cases; a bad one is reported and the others go on.

    Args:
        cases: with labels.
        spec: the segmenter the samples are for.
        instances: label files number objects; every value above 0 is foreground.
        resample: accept sheared or contradictory headers.

    Raises:
        InputError: not one case could be used.
    """
    samples, problems = [], []
    for case in cases:
        try:
            samples.append(read_sample(case, spec, instances, resample))
        except SfumatoError as error:
            problems.append(str(error))
    if not samples:
        first = f" The first: {problems[0]}" if problems else " The split is empty."
        raise InputError(f"None of {len(problems)} cases could be used.{first}")
    return Gathered(tuple(samples), tuple(problems))


def read_sample(case: Case, spec: SegmenterSpec, instances: bool = False, resample: bool = False) -> Sample:
    """One labelled case on the network's grid: image (channels, *grid), label (*grid).

    Raises:
        InputError: no label, one that does not fit the image, or one that holds a single class.
    """
    if case.label is None:
        raise InputError(f"{case.name}: no label, expected one for fitting; add it, or leave the case out.")
    image = read_image(case.images, case.name, resample)
    label = read_label(case.label, case.name, resample)
    prepared = prepare_image(image, spec)
    classes = prepare_label(label, image, spec, instances)
    if classes.min() == classes.max():
        only = spec.classes[int(classes.flat[0])]
        raise InputError(
            f"{case.name}: the label holds nothing but {only}, expected background and one more class; "
            "correct the label, or leave the case out."
        )
    on_grid = prepared.grid.to_network(classes[None], order=0)[0]
    return Sample(prepared.array, on_grid, case.name, case.patient)


def slices_of(sample: Sample) -> list[Sample]:
    """The slices of a volume prepared for a 2-D network, as samples of their own."""
    return [
        Sample(
            np.ascontiguousarray(sample.image[:, i]), plane, f"{sample.name}/{i}", sample.patient, sample.name
        )
        for i, plane in enumerate(sample.label)
    ]
