"""What a training run shows and keeps: a progress bar or plain lines, a CSV file, TensorBoard."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class TrainingReport:
    """Context manager around the epochs of one run."""

    def __init__(self, folder: Path | None, title: str, epochs: int, steps_per_epoch: int, done: int):
        self._folder = folder
        self._title = title
        self._epochs = epochs
        self._done = done
        self._progress: Progress | None = None
        self._task = None
        self._writer = None
        self._total = epochs * steps_per_epoch

    def __enter__(self) -> TrainingReport:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = _tensorboard(self._folder)
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            progress = Progress(*columns, console=Console(stderr=True))
            progress.start()
            self._task = progress.add_task(self._title, total=self._total, completed=self._done)
            self._progress = progress
        if self._done:
            self.say(f"{self._title}: resumed after {self._done} of {self._total} steps")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ):
        if self._progress is not None:
            self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def say(self, line: str) -> None:
        """One line for the reader, beside the progress bar if there is one."""
        if self._progress is not None:
            self._progress.console.print(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def advance(self) -> None:
        """One optimiser step was done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)

    def epoch(
        self,
        epoch: int,
        losses: Mapping[str, float],
        values: Mapping[str, float],
        seconds: float,
        rate: float,
    ) -> None:
        """One epoch was done: say it and keep it."""
        row = {"epoch": epoch + 1, **losses, **values, "seconds": seconds, "learning_rate": rate}
        numbers = "  ".join(f"{k} {v:.4f}" for k, v in (*losses.items(), *values.items()))
        self.say(f"{self._title}: epoch {epoch + 1}/{self._epochs}  {numbers}  {seconds:.0f} s")
        if self._folder is not None:
            _append(self._folder / "log.csv", row)
        if self._writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, epoch + 1)


def _append(path: Path, row: Mapping[str, float]) -> None:
    """Add an epoch's row; rows of that epoch and later ones are of a killed run and go."""
    rows: list[dict[str, object]] = []
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            rows = [dict(r) for r in csv.DictReader(file) if int(float(r["epoch"])) < row["epoch"]]
    rows.append(dict(row))
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        # A class that no validation case showed has no value in that epoch, so columns may differ.
        writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(name for r in rows for name in r)))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, path)


def _tensorboard(folder: Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"))
