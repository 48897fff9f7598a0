"""What a fit takes: how, on which cases, and whether it began before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..datasets import Case, Dataset, Splits
from ..datasets.splits import out_of_fold
from ..errors import ConfigError, DatasetError
from ..interfaces import MethodSpec
from ..segmenters.wrap import FrozenSegmenter
from ..storage import read_json, write_json

CALIBRATING_FOLDS = 3
"""One in this many patients of the calibration split calibrates; the others fit the score."""


@dataclass(frozen=True)
class FitOptions:
    """How to fit a method.

    Args:
        fit_on: the split the score is learned from. `calibration` cases were not seen by the segmenter; `train`
            cases were, errors there are few and atypical, and a warning says so.
        target_risk: mean 1 - Dice wanted among accepted cases; None is nine tenths of the calibration cases' mean.
        target_voxel_risk: error rate wanted among accepted voxels near the foreground.
        instances: label files number objects.
        resample: accept sheared or contradictory headers.
        seed: of everything random.
        device: `auto`, `cpu` or `cuda`.
    """

    fit_on: Literal["calibration", "train"] = "calibration"
    target_risk: float | None = None
    target_voxel_risk: float = 0.01
    instances: bool = False
    resample: bool = False
    seed: int = 0
    device: str = "auto"


def check_networks(spec: MethodSpec, networks: Sequence[FrozenSegmenter]) -> None:
    """Refuse further networks for a method that runs none, and too few for one that does.

    Raises:
        ConfigError: see above.
    """
    if networks and not spec.networks:
        raise ConfigError(
            f"{spec.name} runs no further networks and got {len(networks)}; leave --members out, or fit deep_ensemble."
        )
    if len(networks) < spec.networks:
        raise ConfigError(
            f"{spec.name} runs further networks and got {len(networks)}, expected at least {spec.networks}; give "
            "their folders with --members."
        )


def same_fit(out: Path, settled: Mapping[str, Any]) -> bool:
    """Whether this very fit began here before; its checkpoints are resumed, so those of another are refused.

    Args:
        out: folder of the fit; gets `fit.json`.
        settled: everything that decides what comes out.

    Raises:
        ConfigError: another fit began here.
    """
    return begun_alike(out / "fit.json", settled, "fit")


def begun_alike(path: Path, settled: Mapping[str, Any], what: str) -> bool:
    """Whether this very work began here before; that of other settings is refused.

    Args:
        path: file that keeps the settings, and gets them.
        settled: everything that decides what comes out.
        what: such as `fit`, for the message.

    Raises:
        ConfigError: work of other settings began here.
    """
    content = json.loads(json.dumps(settled))
    begun = path.exists()
    before = read_json(path) if begun else content
    different = [k for k in content if before.get(k) != content[k]]
    if different:
        raise ConfigError(
            f"{path.parent}: holds a {what} with another {', '.join(different)}; choose another --out, or delete it."
        )
    write_json(path, content)
    return begun


def shared_out(
    dataset: Dataset, splits: Splits, options: FitOptions, fits: bool, say: Callable[[str], None]
) -> tuple[list[Case], list[Case]]:
    """The cases that fit a score, and those, of other patients, that calibrate it.

    Args:
        dataset: with all cases.
        splits: of it.
        options: `fit_on` and `seed` are looked at.
        fits: whether the method needs labelled cases; all cases calibrate one that does not.
        say: told how many do which.

    Raises:
        DatasetError: an empty calibration split.
        ConfigError: an unknown `fit_on`.
    """
    cases = [dataset.cases[n] for n in splits.calibration]
    if not cases:
        raise DatasetError(
            "The calibration split is empty; a method is calibrated on cases nobody was trained on."
        )
    fold = out_of_fold([c.patient for c in cases], CALIBRATING_FOLDS, options.seed)
    calibrating = [c for c, f in zip(cases, fold, strict=True) if f == 0]
    fitting = [c for c, f in zip(cases, fold, strict=True) if f != 0]
    if options.fit_on == "train":
        say(
            "warning: fitting on cases the segmenter was trained on; their errors are few and not typical of new cases"
        )
        fitting, calibrating = [dataset.cases[n] for n in splits.train], cases
    elif options.fit_on != "calibration":
        raise ConfigError(f"fit_on={options.fit_on!r}, expected calibration or train.")
    if not fits:
        fitting, calibrating = [], cases
    learners = (
        f"{len(fitting)} cases fit the score, {len(calibrating)} others"
        if fits
        else f"{len(calibrating)} cases"
    )
    say(f"{learners} calibrate it")
    return fitting, calibrating
