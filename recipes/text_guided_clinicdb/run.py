"""Train, calibrate and judge every arm with every seed; what was killed goes on where it stopped.

python -m recipes.text_guided_clinicdb.run --data DATA --out RUN [--arms full,no_text] [--seeds 0,1,2]

Each network goes to RUN/ARM/SEED/network, its calibrated method to RUN/ARM/SEED/method, and what it reaches on the test
colonoscopies to RUN/ARM/SEED/test, and on the calibration ones to RUN/ARM/SEED/calibration.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from recipes.text_guided_clinicdb.arms import ARMS, EPOCHS, SEEDS, SIDE, config_of
from recipes.text_guided_clinicdb.data import FOLDER, sequence_splits

from sfumato.runs.fit_plan import FitOptions
from sfumato.runs.text.arms import ARMS as SENTENCES
from sfumato.runs.text.evaluate import TextEvaluateOptions, evaluate_texts
from sfumato.runs.text.fit import TextFitOptions, fit_texts
from sfumato.runs.text.train import TextTrainConfig, train_texts


def main() -> None:
    parser = argparse.ArgumentParser(description="Train, calibrate and judge every arm with every seed.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds cvc_clinicdb")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--side", type=int, default=SIDE)
    given = parser.parse_args()
    unknown = [name for name in given.arms.split(",") if name not in ARMS]
    if unknown:
        parser.error(f"--arms {','.join(unknown)}, expected some of {','.join(ARMS)}.")
    splits = given.out / "splits.json"
    given.out.mkdir(parents=True, exist_ok=True)
    splits.write_text(json.dumps(sequence_splits(given.data).to_json(), indent=2) + "\n")
    for seed in map(int, given.seeds.split(",")):
        for name in given.arms.split(","):
            config = config_of(ARMS[name], seed, given.epochs, given.side)
            run_arm(given.data / FOLDER, given.out / name / str(seed), name, config, splits)


def run_arm(data: Path, out: Path, name: str, config: TextTrainConfig, splits: Path) -> None:
    """One network from its cases to its numbers; steps that are done are left alone."""
    if (out / "test" / "results.json").exists():
        print(f"{out}: done before", flush=True)
        return
    arm, seed = ARMS[name], config.training.trainer.seed
    if not (out / "network" / "segmenter.json").exists():
        train_texts(data, out / "network", config, splits)
    options = TextFitOptions(level=arm.level, fit=FitOptions(seed=seed))
    fit_texts(out / "network", data, out / "method", options, splits)
    said = (
        SENTENCES
        if name == "full"
        else ("none",)
        if name in ("no_text", "no_modab")
        else ("sentence", "none")
    )
    for split in ("calibration", "test"):
        judged = TextEvaluateOptions(split, arm.level, splits, seed=seed, arms=said)
        evaluate_texts(out / "method", data, judged, out / split)
    print(f"{out}: done", flush=True)


if __name__ == "__main__":
    main()
