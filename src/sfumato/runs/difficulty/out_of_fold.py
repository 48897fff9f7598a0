"""What segmenters that never saw a case say about it: the mean of their probabilities."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...datasets import patient_of
from ...errors import ConfigError
from ...imaging import Image
from ...interfaces import Method
from ...pipeline.case import PredictOptions, predict_image, shared_segmenter
from ...registry import get_method
from ...segmenters.pinned import weights_sha256
from ...segmenters.spec import SegmenterSpec
from ...storage import load_segmenter, read_json
from ...weights import find_segmenter

SPLITS = "splits.json"


@dataclass(frozen=True)
class Member:
    """One segmenter, and whom it was trained or validated on."""

    method: Method
    patients: frozenset[str]


class OutOfFold:
    """Segmenters of one task, each trained on other cases.

    Args:
        members: at least one.
        spec: of all of them: their classes and label values.
    """

    def __init__(self, members: Sequence[Member], spec: SegmenterSpec):
        self.members = members
        self.spec = spec

    @classmethod
    def open(
        cls, folders: Sequence[Path], patient_pattern: str, allow_pickle: bool = False, device: str = "cpu"
    ) -> OutOfFold:
        """Load segmenter folders; the `splits.json` in each says what it was trained on.

        Raises:
            ConfigError: segmenters of other classes than the first, or a folder without splits.
            StorageError: a folder that cannot be read.
        """
        members, specs = [], []
        for folder in folders:
            segmenter = load_segmenter(find_segmenter(str(folder)), allow_pickle=allow_pickle)
            segmenter.to(device)
            method = get_method("softmax")
            members.append(
                Member(method.build(method.config(), segmenter), trained_on(folder, patient_pattern))
            )
            specs.append(segmenter.spec)
        for folder, spec in zip(folders, specs, strict=True):
            if (spec.classes, spec.label_values) != (specs[0].classes, specs[0].label_values):
                raise ConfigError(
                    f"{folder}: classes {list(spec.classes)}, expected {list(specs[0].classes)} as in {folders[0]}; "
                    "name segmenters of one task."
                )
        return cls(members, specs[0])

    def probability(self, image: Image, patient: str) -> tuple[np.ndarray | None, int]:
        """Mean probability (classes, *grid) of the segmenters that saw no case of the patient, and how many they are.

        None and 0 where all of them did.

        Raises:
            InputError: an image that does not fit the segmenters.
        """
        fair = [member for member in self.members if patient not in member.patients]
        total: np.ndarray | None = None
        for member in fair:
            found = predict_image(member.method, image, options=PredictOptions(float32=True)).probability
            total = found.astype(np.float64) if total is None else total + found
        return (None, 0) if total is None else (total / len(fair), len(fair))

    def identity(self) -> list[str]:
        """One line per segmenter, of its weights and of whom it saw, for the settings of a run."""
        weights = (weights_sha256(shared_segmenter([m.method]).module)[:16] for m in self.members)
        seen = (hashlib.sha256("\n".join(sorted(m.patients)).encode()).hexdigest()[:16] for m in self.members)
        return [f"{network} trained on {patients}" for network, patients in zip(weights, seen, strict=True)]


def trained_on(folder: Path, patient_pattern: str) -> frozenset[str]:
    """Patients whose cases chose a segmenter's weights: those of the training split, which validates as well.

    Raises:
        ConfigError: nothing says what it was trained on.
    """
    path = Path(folder) / SPLITS
    if not path.exists():
        raise ConfigError(
            f"{folder}: no {SPLITS} in it, so nobody knows which cases the segmenter saw; expected a folder of "
            f'`sfumato train`, or write {SPLITS} with the key "train".'
        )
    cases = read_json(path).get("train")
    if not isinstance(cases, list):
        raise ConfigError(f"{path}: expected an object with the list of training cases under 'train'.")
    return frozenset(patient_of(str(case), patient_pattern) for case in cases)
