"""What scores see of every training case, as it is and damaged: descriptors, quality, scales of class maps.

    python recipes/difficulty_bench/describe.py DATA CONTAMINATED OUT [--side 128] [--limit 0] [--instances]

DATA is the original data set, CONTAMINATED what `contaminate.py` made of it (for the class prototypes, whose labels are
then as wrong as the ones a curator has). One file per case in OUT; a killed run goes on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from sfumato.datasets import Case, open_dataset
from sfumato.datasets.corruption import CORRUPTIONS, SEVERITIES, corrupt_image
from sfumato.imaging import Image, read_image, read_label
from sfumato.methods.sample_difficulty.maps import Prototypes, energy_maps
from sfumato.methods.sample_difficulty.neighbours import descriptor
from sfumato.methods.sample_difficulty.quality import image_quality
from sfumato.methods.sample_difficulty.spectrum import case_scale, class_scales
from sfumato.pipeline.slices import image_slices, label_slices
from sfumato.runs.difficulty.case import class_numbers, seen_by_extractor
from sfumato.segmenters.extractors import FeatureExtractor, load_extractor

TAUGHT_SEED = 1
"""Of the copies a detector learns from; the damage it is judged on has another."""
PROTOTYPE_CASES = 40


def variants(image: Image, number: int) -> Iterator[tuple[str, Image]]:
    """The image, every damage at every severity, and one copy of each kind to learn from."""
    yield "clean|0|test", image
    for kind in CORRUPTIONS:
        for severity in SEVERITIES:
            yield f"{kind}|{severity}|test", corrupt_image(image, kind, severity, 0)
    for turn, kind in enumerate(CORRUPTIONS):
        severity = 1 + (number + turn) % len(SEVERITIES)
        yield f"{kind}|{severity}|taught", corrupt_image(image, kind, severity, TAUGHT_SEED)


def prototypes_of(folder: Path, names: list[str], extractor: FeatureExtractor, instances: bool) -> Prototypes:
    cases = open_dataset(folder).cases
    values = set()
    labels = {}
    for name in names:
        labels[name] = class_numbers(read_label(cases[name].label, name).array, instances)
        values |= set(np.unique(labels[name]).tolist()) - {0}

    def featured() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for name in names:
            stack = image_slices(seen_by_extractor(read_image(cases[name].images, name)))
            features = extractor.features(torch.from_numpy(stack.array))[extractor.card.main]
            yield features, torch.from_numpy(label_slices(labels[name], stack.axis))

    return Prototypes.fit(featured(), [f"class {v}" for v in sorted(values)])


def described(image: Image, extractor: FeatureExtractor, prototypes: Prototypes) -> dict[str, np.ndarray]:
    stack = image_slices(seen_by_extractor(image))
    features = extractor.features(torch.from_numpy(stack.array))
    axis = "D" if len(stack.array) > 1 else "H"
    main = features[extractor.card.main]
    found = {
        "descriptor": descriptor(features),
        "quality": np.array(list(image_quality(stack.array).values())),
    }
    for name, (maps, present) in {
        "energy_map": energy_maps(main),
        "prototype": prototypes.maps(main),
    }.items():
        scales = class_scales(maps, [str(i) for i in range(len(maps))], present, axis)
        conventions = ("energy", "amplitude", "row_centred")
        found[name] = np.array([case_scale(scales, "sum", c)[0] for c in conventions])
    return found


def describe_case(
    case: Case, number: int, extractor: FeatureExtractor, prototypes: Prototypes, path: Path
) -> None:
    rows: dict[str, list[np.ndarray]] = {}
    names = []
    for name, image in variants(read_image(case.images, case.name), number):
        names.append(name)
        for column, value in described(image, extractor, prototypes).items():
            rows.setdefault(column, []).append(value)
    part = path.with_suffix(".part.npz")
    np.savez(part, variants=np.array(names), **{k: np.stack(v) for k, v in rows.items()})
    part.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("contaminated", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--limit", type=int, default=0, help="cases; 0 takes all training cases")
    parser.add_argument("--instances", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(arguments.data)
    names = list(dataset.splits(arguments.contaminated / "splits.json").train)
    extractor = load_extractor("efficientnet_lite0", device="cpu", side=arguments.side)
    teaching = names[:: max(1, len(names) // PROTOTYPE_CASES)]
    prototypes = prototypes_of(arguments.contaminated / "data", teaching, extractor, arguments.instances)
    chosen = names[: arguments.limit or None]
    for number, name in enumerate(chosen):
        path = arguments.out / f"{name}.npz"
        if not path.exists():
            describe_case(dataset.cases[name], number, extractor, prototypes, path)
            print(f"{name} ({number + 1} of {len(chosen)})", flush=True)


if __name__ == "__main__":
    main()
