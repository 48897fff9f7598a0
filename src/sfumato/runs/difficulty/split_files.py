"""Files that say which cases train: ours, and nnU-Net's list of folds. Only training lists are ever rewritten."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import DatasetError
from ..files import write_text

TRAIN, VALIDATION = "train", "val"


@dataclass(frozen=True)
class SplitFile:
    """A splits file as it was read.

    Args:
        content: ours: an object with `train`, `calibration` and `test`; nnU-Net's: a list of objects with `train` and
            `val`.
        source: where it was read, for messages.
    """

    content: Any
    source: str

    @property
    def is_nnunet(self) -> bool:
        """Whether it is nnU-Net's `splits_final.json`."""
        return isinstance(self.content, list)

    @property
    def folds(self) -> list[dict[str, list[str]]]:
        """The folds; one for ours."""
        return self.content if self.is_nnunet else [self.content]

    @property
    def training(self) -> list[list[str]]:
        """The training list of each fold."""
        return [list(fold[TRAIN]) for fold in self.folds]

    def with_training(self, training: Sequence[Sequence[str]]) -> SplitFile:
        """The same file with shorter training lists; all else, the number of folds too, stays as it is.

        nnU-Net makes a random split of its own for a fold that its file does not have, so no fold may go missing.

        Raises:
            DatasetError: another number of folds, a case that was not in a fold, or a fold left empty.
        """
        if len(training) != len(self.folds):
            raise DatasetError(f"{self.source}: {len(training)} training lists, expected {len(self.folds)}.")
        made = []
        for number, (fold, train) in enumerate(zip(self.folds, training, strict=True)):
            strangers = sorted(set(train) - set(fold[TRAIN]))
            if strangers:
                raise DatasetError(f"{self.source}: {strangers[0]!r} was no training case of fold {number}.")
            if not train:
                raise DatasetError(
                    f"{self.source}: nothing is left to train on in fold {number}; keep a larger share."
                )
            made.append(fold | {TRAIN: list(train)})
        return SplitFile(made if self.is_nnunet else made[0], self.source)

    def write(self, path: Path) -> Path | None:
        """Write as JSON; what was there before is kept beside it and its new name returned.

        nnU-Net's own layout is kept: four spaces, sorted keys, lists in their order.
        """
        text = (
            json.dumps(self.content, indent=4, sort_keys=True)
            if self.is_nnunet
            else json.dumps(self.content, indent=2, ensure_ascii=False) + "\n"
        )
        backup = None
        if path.exists() and (before := path.read_bytes()) != text.encode():
            backup = _free_name(path)
            backup.write_bytes(before)
        write_text(path, text)
        return backup


def _free_name(path: Path) -> Path:
    """`NAME.backup`, or the first of `NAME.backup2`, ... that is free: an older backup is the real original."""
    number, backup = 1, path.with_name(path.name + ".backup")
    while backup.exists():
        number += 1
        backup = path.with_name(f"{path.name}.backup{number}")
    return backup


def read_split_file(path: Path) -> SplitFile:
    """Read either kind.

    Raises:
        DatasetError: missing, damaged, or neither kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable splits file ({error}); expected JSON.") from error
    if isinstance(content, list):
        needed, folds = (TRAIN, VALIDATION), content
    else:
        needed, folds = (TRAIN, "calibration", "test"), [content]
    if not folds or not all(
        isinstance(f, dict) and all(isinstance(f.get(n), list) for n in needed) for f in folds
    ):
        raise DatasetError(
            f"{path}: expected an object with the lists train, calibration and test, or nnU-Net's list of folds with "
            "train and val."
        )
    return SplitFile(content, str(path))
