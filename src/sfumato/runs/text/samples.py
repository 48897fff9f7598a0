"""Cases with sentences, read and prepared for training or fitting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ...datasets import Case, Splits, TextTable, find_leaks
from ...datasets.binary_mask import read_binary_mask
from ...errors import DatasetError, InputError, SfumatoError
from ...imaging import Image, read_image, read_label
from ...methods.text_guided.told_samples import ToldSample
from ...pipeline.prepare import prepare_image, prepare_label
from ...pipeline.samples import slices_of
from ...segmenters.spec import SegmenterSpec
from ...training.samples import Sample


def choose_splits(
    table: TextTable, file: Path | None, level: str | None, seed: int, say: Callable[[str], None]
) -> Splits:
    """Splits of a file, else the data set's own parts, else by patient; what the parts share is told.

    Args:
        table: of the data set.
        file: JSON, or None.
        level: of detail.
        seed: draws patients for calibration where the data set has no part for it.
        say: receives what parts share.

    Raises:
        DatasetError: a file that does not fit the data set, or too few patients.
        UnknownNameError: no such level.
    """
    if file is not None or (table.folder / "splits.json").exists():
        splits = table.dataset().splits(file)
    elif all(case.split is not None for case in table.cases.values()):
        try:
            splits = table.published_splits(seed)
        except DatasetError as error:
            say(f"the data set's own parts are not used: {error}")
            splits = table.dataset().splits()
    else:
        splits = table.dataset().splits()
    for warning in find_leaks(table, splits, level).warnings():
        say(f"warning: {warning}")
    return splits


def read_told(
    table: TextTable, names: Iterable[str], level: str | None, spec: SegmenterSpec, resample: bool = False
) -> tuple[dict[str, ToldSample], list[str]]:
    """Prepared cases by name, and one sentence for each case that cannot be used.

    Args:
        table: of the data set.
        names: of the cases.
        level: of detail, where there are several.
        spec: of the network.
        resample: accept sheared or contradictory headers.

    Raises:
        InputError: not one case could be used.
        UnknownNameError: no such case or level.
    """
    found, problems = {}, []
    for name in names:
        sentence = table.sentence(name, level)
        try:
            sample = read_binary_sample(table.cases[name].case, spec, resample)
        except SfumatoError as error:
            problems.append(str(error))
            continue
        flat = sample.label.ndim == 2
        found[name] = ToldSample((sample,) if flat else tuple(slices_of(sample)), sentence)
    if not found:
        raise InputError(
            f"None of {len(problems)} cases could be used."
            + (f" The first: {problems[0]}" if problems else "")
        )
    return found, problems


def read_binary_sample(case: Case, spec: SegmenterSpec, resample: bool = False) -> Sample:
    """One labelled case on the network's grid; images without any object are welcome.

    Raises:
        InputError: no mask, or one that does not fit.
    """
    image = read_image(case.images, case.name, resample)
    prepared = prepare_image(image, spec)
    label = prepared.grid.to_network(read_classes(case, image, spec, resample)[None], order=0)[0]
    return Sample(prepared.array, label, case.name, case.patient)


def read_classes(case: Case, image: Image, spec: SegmenterSpec, resample: bool = False) -> np.ndarray:
    """Class number per voxel, (*file grid), int16; masks of one object may be written in any way.

    Raises:
        InputError: no mask, or one that does not fit.
    """
    if case.label is None:
        raise InputError(f"{case.name}: no mask, expected one; add it, or leave the case out.")
    if len(spec.classes) == 2:
        mask = read_binary_mask(case.label, case.name)
        return prepare_label(mask, image, spec, instances=True)
    return prepare_label(read_label(case.label, case.name, resample), image, spec)
