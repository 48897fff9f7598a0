"""Splits files for the arms of the training experiment that need no score, beside a contaminated copy.

    python recipes/difficulty_training/arms.py CONTAMINATED

CONTAMINATED is a folder of `contaminate.py`. Writes arms/dirty.json (everything), arms/oracle.json (without the cases
that are known to be wrong) and arms/random.json (without as many drawn at random); calibration and test cases stay.
"""

import sys
from pathlib import Path

import numpy as np

from sfumato.datasets.corrupted import read_corruption
from sfumato.storage import read_json, write_json

SEED = 0


def main() -> None:
    folder = Path(sys.argv[1])
    splits = read_json(folder / "splits.json")
    wrong = set(read_corruption(folder / "data"))
    train = splits["train"]
    drawn = set(np.random.default_rng(SEED).choice(train, len(wrong), replace=False).tolist())
    (folder / "arms").mkdir(exist_ok=True)
    for name, dropped in {"dirty": set(), "oracle": wrong, "random": drawn}.items():
        kept = [case for case in train if case not in dropped]
        write_json(folder / "arms" / f"{name}.json", splits | {"train": kept})
        print(f"{name}: {len(kept)} of {len(train)} training cases, {len(wrong - dropped)} of them wrong")


if __name__ == "__main__":
    main()
