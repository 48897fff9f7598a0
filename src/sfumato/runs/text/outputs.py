"""The files of an image that was segmented by a sentence, beside those of any case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...imaging import write_label_picture, write_map_picture, write_nifti
from ...pipeline.text_answer import TextAnswer, Variant
from ..outputs import write_maps

MEANINGS = {
    "text_shift": "mean change of the probability over other sentences, in [0, 1]",
    "text_doubt": "doubt that comes from the wording, nats",
    "image_doubt": "doubt that is left whatever the wording, nats",
}


def write_answer(
    folder: Path, answer: TextAnswer, label_values: tuple[int, ...], float32: bool
) -> dict[str, dict[str, Any]]:
    """Write the maps of any case, then the mask without a sentence and the maps of what words do.

    Returns:
        What each file holds. Volumes: `.nii.gz`, maps as uint8 with slope unless `float32`; pictures: `.png`, and
        `.tiff` as float32.
    """
    result = answer.result
    described = write_maps(folder, result, label_values, float32)
    if answer.sentence is None:
        return described
    geometry, flat = result.image.geometry, result.image.geometry.dims == 2
    labels = np.asarray(label_values)[answer.without]
    kind = np.uint8 if labels.min(initial=0) >= 0 and labels.max(initial=0) < 256 else np.int32
    name = f"segmentation_without_text.{'png' if flat else 'nii.gz'}"
    if flat:
        write_label_picture(folder / name, labels.astype(kind))
    else:
        write_nifti(folder / name, labels.astype(kind), geometry)
    described[name] = {"meaning": "label values, segmented without a sentence", "stored": np.dtype(kind).name}
    maps = {"text_shift": answer.shift, "text_doubt": answer.wording, "image_doubt": answer.image_doubt}
    most = float(np.log(len(result.classes)))
    for key, values in maps.items():
        high = 1.0 if key == "text_shift" else most
        file = f"{key}.{'tiff' if flat else 'nii.gz'}"
        stored = "float32" if flat or float32 else "uint8 with slope"
        if flat:
            write_map_picture(folder / file, values)
        else:
            write_nifti(folder / file, np.clip(values, 0, high), geometry, None if float32 else (0.0, high))
        described[file] = {"meaning": MEANINGS[key], "stored": stored}
    return described


def text_content(answer: TextAnswer) -> dict[str, Any]:
    """What `case.json` says under `text`; the same for the same input."""
    check, found = answer.check, answer.contradiction
    return {
        "sentence": answer.sentence,
        "new_words": list(check.unseen),
        "meant": dict(check.meant),
        "unlike_training": check.unlike,
        "contradiction": found.score,
        "broken": list(found.broken),
        "decided_by_the_sentence": list(found.followed),
        "moved": {"variants": _moved(answer.variants), "words": _moved(answer.words)},
    }


def _moved(variants: tuple[Variant, ...]) -> list[dict[str, Any]]:
    return [{"text": variant.text, "moved": round(variant.moved, 6)} for variant in variants]
