"""A copy of a data set in which a tenth of the training cases is labelled wrongly, and splits for out-of-fold models.

    python recipes/difficulty_bench/contaminate.py DATA OUT [--splits splits.json] [--instances] [--prevalence 0.1]

OUT/data is the copy (its corruption.json says what is wrong), OUT/splits.json the splits of the original, and
OUT/folds/fold0.json ... train on two thirds of the training cases each. Calibration and test cases stay as they are.
"""

import argparse
from pathlib import Path

from sfumato.datasets import open_dataset
from sfumato.datasets.corrupted import plan_corruption, write_corrupted
from sfumato.datasets.label_corruption import LABEL_CORRUPTIONS
from sfumato.runs.difficulty.folds import write_folds
from sfumato.storage import write_json

SEVERE = 3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--splits", type=Path, default=None)
    parser.add_argument("--instances", action="store_true")
    parser.add_argument("--prevalence", default="0.1")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    dataset = open_dataset(arguments.data)
    splits = dataset.splits(arguments.splits)
    kinds = tuple(LABEL_CORRUPTIONS)
    plan = plan_corruption(splits.train, kinds, arguments.prevalence, (SEVERE,), arguments.seed)
    write_corrupted(dataset, arguments.out / "data", plan, arguments.seed, arguments.instances)
    write_json(arguments.out / "splits.json", splits.to_json())
    write_folds(arguments.data, arguments.out / "folds", arguments.folds, arguments.out / "splits.json")
    print(f"{len(plan)} of {len(splits.train)} training cases are labelled wrongly")


if __name__ == "__main__":
    main()
