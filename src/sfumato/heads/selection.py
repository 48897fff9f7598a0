"""How long to train a head: chosen on fitting cases that the trial head did not see, near the foreground.

A head learns from few held-out cases. Trained for too long it ends below the softmax's own ranking, and a loss over
whole images does not notice, as nearly all voxels are easy background. So the fitting cases are dealt into folds; for
each fold a trial head learns from the others, and after every stretch of steps its ranking of mistakes is judged on the
fold. The number of stretches with the best mean over folds is what the head itself is trained for; none at all, where
the untrained head ranks best.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Protocol

import numpy as np
from torch import nn

from ..interfaces import Estimator, FitContext
from ..metrics.regions import region_masks
from ..metrics.selective import selective
from ..training.config import TrainerConfig
from ..training.loop import StepLoss, train
from ..types import Kind
from .crops import FeatureSource
from .labels import label_of
from .schedule import Schedule, trainer_settings

STRETCHES = 12
"""Looks at a trial head while it is trained."""


class SelectedSchedule(Schedule, Protocol):
    """A schedule whose length may be chosen."""

    @property
    def folds(self) -> int: ...  # noqa: D102


def train_head(
    head: nn.Module,
    source: FeatureSource,
    loss_of: Callable[[FeatureSource], StepLoss],
    config: SelectedSchedule,
    context: FitContext,
    title: str,
) -> nn.Module:
    """Train a head on all fitting cases, for as long as trial heads on parts of them say, or for all steps.

    Args:
        head: fresh; it is an estimator that fills the RANKING map.
        source: the fitting cases.
        loss_of: the losses of the crops of a source.
        config: `folds` below 2, or more than there are cases, trains for all steps.
        context: for checkpoints and logs, the seed and the device.
        title: shown beside the progress bar.

    Returns:
        The trained head; the head as it came where the untrained one ranks best.
    """
    trainer, steps = trainer_settings(config, source.steps_per_epoch, context)
    if config.folds < 2 or len(source.cases) < config.folds:
        return train(head, loss_of(source), source.batch, steps, trainer, context.folder, title=title)
    trainer, steps = stretched(trainer, steps)
    table = []
    for number, held in enumerate(np.array_split(np.arange(len(source.cases)), config.folds), start=1):
        part = source.only([i for i in range(len(source.cases)) if i not in held])
        if part.rows:
            name = f"{title}, trial {number} of {config.folds}"
            table.append(
                _trial(deepcopy(head), source, held.tolist(), part, loss_of(part), trainer, steps, name)
            )
    best = best_stretch(np.array(table), steps, context)
    if best == 0:
        return head
    return train(
        head,
        loss_of(source),
        source.batch,
        steps,
        replace(trainer, stop_after=best),
        context.folder,
        title=title,
    )


def stretched(trainer: TrainerConfig, steps_per_epoch: int) -> tuple[TrainerConfig, int]:
    """The same number of steps, near enough, in about `STRETCHES` epochs, and the steps of one.

    Example:
        >>> trainer, steps = stretched(TrainerConfig(epochs=4), 110)
        >>> trainer.epochs, steps
        (12, 37)
    """
    total = trainer.epochs * steps_per_epoch
    count = min(STRETCHES, total)
    return replace(trainer, epochs=count), -(-total // count)


def _trial(
    head: nn.Module,
    source: FeatureSource,
    held: Sequence[int],
    part: FeatureSource,
    loss: StepLoss,
    trainer: TrainerConfig,
    steps: int,
    title: str,
) -> list[float]:
    """Held-out AUROC of the untrained head and after every stretch."""
    seen = [near_auroc(source, head.eval(), held)]

    def look(module: nn.Module) -> Mapping[str, float]:
        seen.append(near_auroc(source, module, held))
        return {"score": float(len(seen))}

    train(head, loss, part.batch, steps, trainer, None, look, title)
    return seen


def best_stretch(table: np.ndarray, steps: int, context: FitContext) -> int:
    """The first of the stretches with the best mean over folds; all of them where nothing is defined.

    Args:
        table: (folds, 1 + stretches) AUROC, NaN where undefined.
        steps: of a stretch.
        context: hears the outcome.

    Example:
        >>> best_stretch(np.array([[0.8, 0.9, 0.7], [0.8, np.nan, 0.7]]), 10, FitContext())
        1
    """
    known = np.isfinite(table)
    total, count = np.where(known, table, 0.0).sum(axis=0), known.sum(axis=0)
    means = np.where(count > 0, total / np.maximum(count, 1), -np.inf)
    last = table.shape[1] - 1
    if not known.any():
        context.say("no mistake near the foreground in the held-out parts: trained for all steps")
        return last
    best = int(np.argmax(means))
    context.say(
        f"AUROC of mistakes near the foreground in {len(table)} held-out parts: {means[0]:.4f} untrained, "
        f"{means[best]:.4f} after {best * steps} steps, {means[last]:.4f} after {last * steps}; training for "
        f"{best * steps}"
    )
    return best


def near_auroc(source: FeatureSource, estimator: nn.Module, cases: Sequence[int]) -> float:
    """Mean over rows of the AUROC of mistakes within 5 voxels of predicted or true foreground; NaN without any."""
    assert isinstance(estimator, Estimator)
    device = next((p.device for p in estimator.parameters()), None)
    found = []
    for index in cases:
        case, segmentation = source.cases[index], source.segmentation(index)
        moved = replace(
            segmentation,
            logits=segmentation.logits.to(device),
            features={k: v.to(device) for k, v in segmentation.features.items()},
        )
        reduced = replace(moved, features=dict(estimator.respond(case, moved)))
        ranking = estimator.estimate(case, reduced).maps[Kind.RANKING].detach().cpu().numpy()
        prediction = segmentation.labels().numpy()
        for score, given, truth in zip(ranking, prediction, label_of(case, index).cpu().numpy(), strict=True):
            near = region_masks(given, truth)["near"]
            found.append(selective(score[near], (given != truth)[near]).auroc)
    known = [value for value in found if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
