"""`sfumato demo text_guided`: a sentence picks a region of a brain slice, with a network trained on the spot.

Every slice is segmented by the sentences of all its regions. So each sentence also tells what becomes of the others:
whether the mask leaves the left thalamus when the right one is named.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets import TextTable, read_text_table
from ..datasets.binary_mask import read_binary_mask
from ..datasets.text_variants import swap_sides
from ..errors import SfumatoError
from ..methods.text_guided.config import TextGuidedConfig
from ..methods.text_guided.training import TextTraining
from ..metrics.overlap import dice_per_class
from ..runs.text.evaluate import recorded_splits
from ..runs.text.fit import fit_texts
from ..runs.text.predict import TextPredictOptions, predict_texts
from ..runs.text.train import TextTrainConfig, train_texts
from ..training.config import TrainerConfig
from .regions import SOURCE, write_regions
from .run import read_map
from .table import table_lines


@dataclass(frozen=True)
class TextDemo:
    """How much is shown and learnt.

    Args:
        every: millimetres from slice to slice.
        train: few slices of one head need few steps and no validation. Mirrored, with left and right exchanged in the
            sentence, each shows either side.
    """

    every: int = 2
    train: TextTrainConfig = field(
        default_factory=lambda: TextTrainConfig(
            # Sentences of eight regions differ in two words.
            TextGuidedConfig(text_states="standardised"),
            training=TextTraining(
                side=96,
                batch_size=8,
                trainer=TrainerConfig(
                    epochs=24,
                    learning_rate=1e-3,
                    final_learning_rate=1e-6,
                    warmup=10,
                    clip=1.0,
                    average=0.95,
                    device="cpu",
                ),
            ),
            classes=("region",),
            validation=0,
            mirror=True,
        )
    )


def run_text_demo(
    out: Path,
    say: Callable[[str], None],
    note: Callable[[str, str], None] = lambda name, state: None,
    demo: TextDemo | None = None,
) -> dict[str, Any]:
    """Write the slices, train, calibrate, and segment the test slices by the sentence of each of their regions.

    A killed run is finished by the same call.

    Args:
        out: gets `data/`, `network/`, `fitted/` and `results/`.
        say: receives lines for people: a table where standard error is a terminal, plain lines elsewhere.
        note: told each predicted case's name and `start`, `done`, `kept` or `failed`.
        demo: see `TextDemo`.

    Returns:
        `regions` (see `judge_regions`), `cases`, `picked`: of how many masks the named region is the nearest of all in
        the slice, `pages` to open, `training_seconds` and `seconds`; what is undefined is None.

    Raises:
        MissingExtraError: a package that carries the brain, the image encoder or the language model is not installed.
        ConfigError: a folder of a run with other settings.
        SfumatoError: a slice could not be predicted.
    """
    demo, start = demo or TextDemo(), time.perf_counter()
    say(f"{SOURCE}.")
    data, network, fitted = write_regions(out / "data", demo.every), out / "network", out / "fitted"
    begun = time.perf_counter()
    train_texts(data, network, demo.train, say=say)
    trained = time.perf_counter() - begun
    fit_texts(network, data, fitted, say=say)
    table = read_text_table(data)
    names = recorded_splits(network, table).test
    sentences: dict[str | None, str] = {name: table.sentence(name) or "" for name in names}
    files = [path for name in names for path in table.cases[name].case.images]
    options = TextPredictOptions(sides="patient")
    summary = predict_texts(fitted, files, sentences, out / "results", options, note, say)
    if summary.failures:
        raise SfumatoError(f"The demo failed: {summary.failures[0]}")
    masks = [read_masks(table, name, out / "results" / name) for name in names]
    result = judge_regions(masks) | {
        "pages": [str(summary.index)],
        "training_seconds": round(trained, 1),
        "seconds": round(time.perf_counter() - start, 1),
    }
    for line in describe(result, sys.stderr.isatty()):
        say(line)
    return result


@dataclass(frozen=True)
class RegionMasks:
    """A region of a slice and what became of it.

    Args:
        slice_name: such as `averaged-brain-064`.
        region: such as `left putamen`.
        true: (rows, columns) boolean, the atlas's region.
        named: the mask with the sentence.
        without: the mask without any.
    """

    slice_name: str
    region: str
    true: np.ndarray
    named: np.ndarray
    without: np.ndarray


def read_masks(table: TextTable, name: str, folder: Path) -> RegionMasks:
    """Masks of a case of `write_regions` that `predict_texts` finished in a folder."""
    label = table.cases[name].case.label
    assert label is not None  # the demo wrote it
    true = read_binary_mask(label, name).array
    named, without = (read_map(folder, file) for file in ("segmentation", "segmentation_without_text"))
    slice_name, side, region = name.split("_")
    return RegionMasks(slice_name, f"{side} {region}", true > 0, named > 0, without > 0)


def judge_regions(masks: Sequence[RegionMasks]) -> dict[str, Any]:
    """What sentences do to the mask, as means over slices.

    Args:
        masks: of all regions of the slices.

    Returns:
        `cases`, their number. `picked`, of how many the mask overlaps with its own region more than with any other of
        the slice. `regions`, for each `region`: `slices`, and the Dice with it of the mask where the sentence names it
        (`named`), where there is no sentence (`without`) and where it names the other side (`other_side`), and then the
        Dice with that side (`there`); None where no slice shows both sides.
    """
    seen: dict[str, dict[str, RegionMasks]] = {}
    for mask in masks:
        seen.setdefault(mask.slice_name, {})[mask.region] = mask
    sides_together = sorted({mask.region for mask in masks}, key=lambda name: name.split()[::-1])
    rows = [_region_row(region, seen) for region in sides_together]
    return {"regions": rows, "cases": len(masks), "picked": sum(_is_picked(m, seen) for m in masks)}


def _region_row(region: str, seen: Mapping[str, Mapping[str, RegionMasks]]) -> dict[str, Any]:
    slices = [masks for masks in seen.values() if region in masks]
    both = [(masks[region], masks[other]) for masks in slices if (other := swap_sides(region)) in masks]
    return {
        "region": region,
        "slices": len(slices),
        "named": _mean([_dice(masks[region].named, masks[region].true) for masks in slices]),
        "without": _mean([_dice(masks[region].without, masks[region].true) for masks in slices]),
        "other_side": _mean([_dice(other.named, mask.true) for mask, other in both]),
        "there": _mean([_dice(other.named, other.true) for _, other in both]),
    }


def _is_picked(mask: RegionMasks, seen: Mapping[str, Mapping[str, RegionMasks]]) -> bool:
    near = {name: _dice(mask.named, other.true) for name, other in seen[mask.slice_name].items()}
    return near[mask.region] > max([dice for name, dice in near.items() if name != mask.region], default=0.0)


def _dice(mask: np.ndarray, true: np.ndarray) -> float:
    return float(dice_per_class(mask.astype(np.int64), true.astype(np.int64), 2)[0])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


COLUMNS = {
    "region": "region",
    "slices": "slices",
    "named": "named",
    "without": "none",
    "other_side": "other side",
    "there": "there",
}
LEGEND = (
    "Dice of mask and region. named: the sentence names the region; none: no sentence; other side: the sentence names "
    "that of the other side, and 0 is right; there: then with that one.",
    "One averaged brain, and the test slices are neighbours of the training slices: this shows that the words choose, "
    "not how good such a network is on people.",
)


def describe(result: Mapping[str, Any], terminal: bool) -> list[str]:
    """The result as lines: a drawn table for a terminal, else one plain line per region."""
    title = "Which region the words pick"
    return [
        *table_lines(COLUMNS, result["regions"], terminal, title),
        f"{result['picked']} of {result['cases']} masks lie on the region that was named, of all in their slice",
        *LEGEND,
        f"{result['training_seconds']} s of training and {result['seconds']} s in all, this time",
        *(f"open {page}" for page in result["pages"]),
    ]
