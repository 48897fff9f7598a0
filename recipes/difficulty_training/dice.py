"""Dice on test cases of segmenters trained on several versions of one training set, paired by case.

    python recipes/difficulty_training/dice.py DATA SPLITS RUNS --arms clean,dirty,oracle --seeds 0,1,2

DATA is the original data set: its test labels are right. RUNS holds one segmenter folder ARM-SEED each. A case counts
by its mean over seeds; intervals are bootstrapped over patients.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from sfumato.datasets import open_dataset
from sfumato.metrics.bootstrap import bootstrap_difference, bootstrap_mean
from sfumato.metrics.overlap import dice_per_class
from sfumato.pipeline.samples import gather_samples
from sfumato.runs.train import segment_array
from sfumato.storage import load_segmenter


def dice_of(folder: Path, samples: list) -> np.ndarray:
    """Mean Dice over classes of each case."""
    segmenter = load_segmenter(folder)
    classes = len(segmenter.spec.classes)
    found = [
        np.nanmean(dice_per_class(segment_array(segmenter.module, s.image, segmenter.spec), s.label, classes))
        for s in samples
    ]
    return np.array(found)


def recovered(arm: np.ndarray, dirty: np.ndarray, clean: np.ndarray) -> tuple[float, float, float]:
    """(arm - dirty) / (clean - dirty) of the means, with a 95 % interval over cases, which are one per patient here."""
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(arm), len(arm)) for _ in range(2000)]
    shares = [(arm[i].mean() - dirty[i].mean()) / (clean[i].mean() - dirty[i].mean()) for i in draws]
    low, high = np.percentile(shares, (2.5, 97.5))
    return float((arm.mean() - dirty.mean()) / (clean.mean() - dirty.mean())), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("splits", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--arms", default="clean,dirty,oracle,random")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--against", default="dirty")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arms, seeds = arguments.arms.split(","), arguments.seeds.split(",")
    dataset = open_dataset(arguments.data)
    cases = [dataset.cases[name] for name in dataset.splits(arguments.splits).test]
    spec = load_segmenter(arguments.runs / f"{arms[0]}-{seeds[0]}").spec
    samples = list(gather_samples(cases, spec, False, False).samples)
    patients = [s.patient for s in samples]
    table = {a: np.array([dice_of(arguments.runs / f"{a}-{s}", samples) for s in seeds]) for a in arms}
    baseline = table[arguments.against].mean(axis=0)
    print(f"| arm | Dice [95 %] | by seed | difference to {arguments.against} [95 %] |")
    print("| --- | --- | --- | --- |")
    for arm, dice in table.items():
        mean = dice.mean(axis=0)
        own, gain = bootstrap_mean(mean, patients), bootstrap_difference(mean, baseline, patients)
        by_seed = ", ".join(f"{v:.4f}" for v in dice.mean(axis=1))
        print(
            f"| {arm} | {own.value:.4f} [{own.low:.4f}, {own.high:.4f}] | {by_seed} | "
            f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] |"
        )
    for arm in [a for a in arms if a not in ("clean", arguments.against)] if "clean" in arms else []:
        share, low, high = recovered(table[arm].mean(axis=0), baseline, table["clean"].mean(axis=0))
        print(f"{arm}: {share:.0%} [{low:.0%}, {high:.0%}] of what the wrong labels cost")
    (arguments.runs / "dice.json").write_text(json.dumps({a: d.tolist() for a, d in table.items()}))


if __name__ == "__main__":
    main()
