"""Very many tiny pictures, to try an index on: a bright disc on noise, another one in every case.

    python recipes/difficulty_index/make_phantoms.py OUT [--count 10000] [--seed 0]

Case n depends on the seed and n alone. Files that are there are left alone, so a killed run goes on.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
DARK, BRIGHT = 60.0, 160.0


def phantom(number: int, seed: int) -> np.ndarray:
    """(SIDE, SIDE) uint8; place and size of the disc and the noise are drawn."""
    rng = np.random.default_rng([seed, number])
    rows, columns = np.indices((SIDE, SIDE))
    y, x = rng.uniform(10, SIDE - 10, size=2)
    disc = (rows - y) ** 2 + (columns - x) ** 2 < rng.uniform(4, 9) ** 2
    grey = np.where(disc, BRIGHT, DARK) + rng.normal(0, rng.uniform(2, 25), disc.shape)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    folder = arguments.out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.count):
        path = folder / f"phantom_{number:06d}.png"
        if not path.exists():
            part = path.with_suffix(".part")
            Image.fromarray(phantom(number, arguments.seed)).save(part, format="PNG")
            part.rename(path)


if __name__ == "__main__":
    main()
