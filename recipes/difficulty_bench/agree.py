"""What segmenters that never saw a case say of it: of its label, right and wrong, and of its image, whole and damaged.

    python recipes/difficulty_bench/agree.py DATA CONTAMINATED OUT [--limit 0] [--instances]

CONTAMINATED holds the folds of `contaminate.py`, and in fold0, fold1, ... the segmenters that `sfumato train` made of
them. Labels are damaged at all severities, images at the middle one. One file per case in OUT; a killed run goes on.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sfumato.datasets import Case, open_dataset
from sfumato.datasets.corruption import CORRUPTIONS, SEVERITIES, corrupt_image
from sfumato.datasets.label_corruption import LABEL_CORRUPTIONS, corrupt_label
from sfumato.datasets.splits import PATIENT_PATTERN
from sfumato.errors import InputError
from sfumato.imaging import Image, LabelMap, read_image, read_label
from sfumato.methods.sample_difficulty.agreement import label_agreement
from sfumato.methods.sample_difficulty.contrast import boundary_contrast
from sfumato.methods.sample_difficulty.spectrum import case_scale, class_scales
from sfumato.metrics.overlap import dice_per_class
from sfumato.pipeline.grid import ModelGrid
from sfumato.pipeline.prepare import prepare_image, prepare_label
from sfumato.runs.difficulty.out_of_fold import OutOfFold
from sfumato.segmenters.extractors.network import segmenter_maps
from sfumato.segmenters.frozen import FrozenSegmenter
from sfumato.types import Segmentation

MIDDLE = 2
AGREEMENT = ("disagreement", "worst", "expected", "surprise", "softmin", "confident", "size_log_ratio")
LABEL_COLUMNS = (*AGREEMENT, "boundary_step", "boundary_alignment")
IMAGE_COLUMNS = ("energy", "amplitude", "row_centred", "expected", "predicted_voxels", "slices", "dice")


def drawn(label: LabelMap, instances: bool) -> Iterator[tuple[str, LabelMap]]:
    """The label as it is, and with every fault that can befall it."""
    yield "clean|0", label
    for kind in LABEL_CORRUPTIONS:
        for severity in SEVERITIES:
            try:
                yield f"{kind}|{severity}", corrupt_label(label, kind, severity, 0, instances)
            except InputError:  # nothing in the foreground, or too little of it to lose
                continue


def shown(image: Image) -> Iterator[tuple[str, Image]]:
    yield "clean|0", image
    for kind in CORRUPTIONS:
        yield f"{kind}|{MIDDLE}", corrupt_image(image, kind, MIDDLE, 0)


def logits_of(segmenter: FrozenSegmenter, image: Image) -> tuple[torch.Tensor, torch.Tensor, ModelGrid]:
    """Logits (classes, slices, h, w), probabilities of all classes, and the network's grid."""
    prepared = prepare_image(image, segmenter.spec)
    array = torch.from_numpy(prepared.array)
    # These networks are convolutions all through, so a scale is taken of the whole image in one piece, not of windows.
    spec = segmenter.spec
    grid = array.shape[-spec.spatial_dims :]
    window = tuple(max(w, -(-n // d) * d) for n, w, d in zip(grid, spec.window, spec.divisors, strict=True))
    whole = FrozenSegmenter(segmenter.module, replace(spec, window=window))
    logits = segmenter_maps(whole, array)["logits"].transpose(0, 1)
    return logits, Segmentation(logits[None], segmenter.spec.link).probability()[0], prepared.grid


def of_label(image: Image, grid: ModelGrid, probability: torch.Tensor, label: np.ndarray) -> list[float]:
    found = label_agreement(
        probability.numpy(), grid.to_network(label[None], order=0)[0].reshape(probability.shape[1:])
    )
    edges = boundary_contrast(image.array[:1], label, len(probability), image.geometry.spacing)
    return [getattr(found, name) for name in AGREEMENT] + [edges.mean_step, edges.mean_alignment]


def of_image(image: Image, label: np.ndarray, segmenter: FrozenSegmenter) -> list[float]:
    logits, probability, grid = logits_of(segmenter, image)
    foreground = logits[1:] if len(logits) > 1 else logits
    axis = "D" if logits.shape[1] > 1 else "H"
    scales = class_scales(foreground, [str(i) for i in range(len(foreground))], None, axis)
    predicted = probability.argmax(dim=0).numpy()
    truth = grid.to_network(label[None], order=0)[0].reshape(predicted.shape)
    return [
        *(case_scale(scales, "sum", c)[0] for c in ("energy", "amplitude", "row_centred")),
        label_agreement(probability.numpy(), predicted).expected,
        float((predicted > 0).sum() + 1),
        float((predicted > 0).any(axis=(1, 2)).sum() + 1),
        float(np.nanmean(dice_per_class(predicted, truth, len(probability)))),
    ]


def agree_case(case: Case, segmenter: FrozenSegmenter, instances: bool, path: Path) -> None:
    image, label = read_image(case.images, case.name), read_label(case.label, case.name)
    _, probability, grid = logits_of(segmenter, image)
    labels, rows = [], []
    for name, wrong in drawn(label, instances):
        labels.append(name)
        rows.append(
            of_label(image, grid, probability, prepare_label(wrong, image, segmenter.spec, instances))
        )
    truth = prepare_label(label, image, segmenter.spec, instances)
    images, scales = [], []
    for name, damaged in shown(image):
        images.append(name)
        scales.append(of_image(damaged, truth, segmenter))
    part = path.with_suffix(".part.npz")
    np.savez(
        part,
        labels=np.array(labels),
        label_rows=np.array(rows),
        images=np.array(images),
        image_rows=np.array(scales),
    )
    part.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("contaminated", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=0, help="cases; 0 takes all training cases")
    parser.add_argument("--instances", action="store_true")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    dataset = open_dataset(arguments.data)
    names = list(dataset.splits(arguments.contaminated / "splits.json").train)[: arguments.limit or None]
    members = OutOfFold.open(sorted(arguments.contaminated.glob("fold[0-9]")), PATIENT_PATTERN).members
    for number, name in enumerate(names):
        case, path = dataset.cases[name], arguments.out / f"{name}.npz"
        if not path.exists():
            # Each case is held out in one fold.
            fair = next(m for m in members if case.patient not in m.patients)
            agree_case(case, fair.method.segmenter, arguments.instances, path)
            print(f"{name} ({number + 1} of {len(names)})", flush=True)


if __name__ == "__main__":
    main()
