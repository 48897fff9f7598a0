"""Fitting the heads by our one trainer, and what they are held to: records of other pictures or patients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...errors import ConfigError, InputError
from ...interfaces import FitContext
from ...training.config import TrainerConfig
from ...training.loop import StepLoss, Validation, train
from ...types import Batch
from .coding import encode, head_names
from .config import SamGapsConfig
from .features import Standard, hypothesis_features
from .heads import HeadBank
from .records import GapRecords
from .targets import head_targets, prompt_targets

LEAST_VARIANCE = 1e-4
"""A target whose variance is below this (a gap that never opens) is not blown up to match the others."""


@dataclass(frozen=True)
class Examples:
    """What heads learn from; one row is one hypothesis.

    Args:
        features: standardised.
        targets: coded, in [0, 1]; NaN where a head learns nothing.
        weights: of the rows, mean 1.
    """

    features: Float[Tensor, "examples features"]
    targets: Float[Tensor, "examples heads"]
    weights: Float[Tensor, "examples"]

    @staticmethod
    def of(records: GapRecords, standard: Standard, config: SamGapsConfig) -> Examples:
        """All hypotheses of all records."""
        names = head_names(config.ladder)
        features = standard(hypothesis_features(records.inputs, config), records.inputs.rung)
        values = head_targets(records, names, prompt_targets(records, config.ladder, config.choice))
        weights = set_weights(records.sets) if config.balanced else torch.ones(len(records))
        return Examples(
            features.flatten(0, 1),
            encode(values, names, config.gap_range).flatten(0, 1),
            weights.repeat_interleave(features.shape[1]),
        )


def set_weights(sets: tuple[str, ...]) -> Float[Tensor, "rows"]:
    """One weight per row, mean 1, such that every data set weighs the same.

    Example:
        >>> set_weights(("a", "a", "a", "b")).tolist()
        [0.6666666865348816, 0.6666666865348816, 0.6666666865348816, 2.0]
    """
    counts = {name: sets.count(name) for name in set(sets)}
    return torch.tensor([len(sets) / (len(counts) * counts[name]) for name in sets])


def held_out(records: GapRecords, share: float, seed: int) -> Bool[Tensor, "rows"]:
    """Which rows are held out: whole groups, a share of each data set's, at least one group if the share is above 0.

    No group of a data set is held out if it is the only one.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen: set[tuple[str, str]] = set()
    for name in sorted(set(records.sets)):
        pairs = zip(records.groups, records.sets, strict=True)
        groups = sorted({group for group, data_set in pairs if data_set == name})
        count = min(max(1, round(share * len(groups))), len(groups) - 1) if share > 0 else 0
        order = torch.randperm(len(groups), generator=generator).tolist()
        chosen |= {(name, groups[i]) for i in order[:count]}
    return torch.tensor([pair in chosen for pair in zip(records.sets, records.groups, strict=True)])


def fit_heads(fitting: GapRecords, config: SamGapsConfig, context: FitContext) -> tuple[Standard, HeadBank]:
    """Statistics of features and fitted heads; neither has seen anything but `fitting`.

    Args:
        fitting: a share of its groups chooses the epoch (`config.validation`), the others are learned from.
        config: see `SamGapsConfig`.
        context: seed, device, folder for checkpoints.

    Raises:
        InputError: no records.
        ConfigError: records of another ladder.
    """
    check_records(fitting, config, "fitting")
    out = held_out(fitting, config.validation, context.seed)
    kept, validation = fitting[~out], fitting[out]
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        standard, bank = Standard(config), HeadBank(config)
    standard.fit(hypothesis_features(kept.inputs, config), kept.inputs.rung)
    examples = Examples.of(kept, standard, config)
    judged = Examples.of(validation, standard, config) if len(validation) else None
    context.say(f"heads learn from {len(kept)} decodes, {len(validation)} choose when to stop")
    return standard, train_bank(bank, examples, judged, context)


def check_records(records: GapRecords, config: SamGapsConfig, what: str) -> None:
    """Refuse records that these settings cannot use.

    Raises:
        InputError: there are none.
        ConfigError: records of another ladder.
    """
    if not len(records):
        raise InputError(f"No {what} records, expected at least one decode whose truth is known.")
    rungs = records.rung_own.shape[1]
    if rungs != len(config.ladder):
        raise ConfigError(
            f"ladder={config.ladder} names {len(config.ladder)} networks, the {what} records are of {rungs}; name "
            "each of them once, cheapest first."
        )


def train_bank(
    bank: HeadBank, fitting: Examples, validation: Examples | None, context: FitContext
) -> HeadBank:
    """The bank after training by mean squared error, every head in units of its target's variance.

    Examples are shuffled anew in every epoch. With `validation`, the epoch with the best mean R squared is kept.
    """
    config = bank.config
    steps = -(-len(fitting.features) // config.batch_size)
    variance = _variance(fitting)

    def batches(step: int) -> Batch:
        rows = _shuffled(len(fitting.features), context.seed, step // steps)
        taken = rows[(step % steps) * config.batch_size :][: config.batch_size]
        return Batch(fitting.features[taken], index=taken)

    trained = train(
        bank,
        _loss_of(fitting, variance),
        batches,
        steps,
        trainer_config(config, steps, context),
        context.folder,
        None if validation is None else _validation_of(validation, variance),
        "fit sam_gaps",
    )
    assert isinstance(trained, HeadBank)
    return trained.requires_grad_(False)


def trainer_config(config: SamGapsConfig, steps: int, context: FitContext) -> TrainerConfig:
    """How the trainer is told to go about it."""
    return TrainerConfig(
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        optimiser=config.optimiser,
        weight_decay=config.weight_decay,
        warmup=min(50, steps),
        average=config.average,
        precision="float32",
        patience=config.patience if config.validation else 0,
        seed=context.seed,
        device=context.device,
    )


def _loss_of(fitting: Examples, variance: Float[Tensor, "heads"]) -> StepLoss:
    def loss(module: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        assert isinstance(module, HeadBank)
        assert batch.index is not None
        index, device = batch.index.cpu(), batch.image.device
        target = fitting.targets[index].to(device)[:, None]
        weight = fitting.weights[index].to(device)[:, None, None] / variance.to(device)
        told = torch.sigmoid(module.member_logits(batch.image))
        known = torch.isfinite(target).expand_as(told)
        squared = (told - target.nan_to_num()).square() * weight
        return {"total": squared[known].sum() / max(1, int(known.sum()))}

    return loss


def _validation_of(examples: Examples, variance: Float[Tensor, "heads"]) -> Validation:
    @torch.no_grad()
    def validate(module: nn.Module) -> dict[str, float]:
        assert isinstance(module, HeadBank)
        told = module.coded(examples.features.to(module.weights[0].device)).cpu()
        known = torch.isfinite(examples.targets)
        squared = (told - examples.targets.nan_to_num()).square() * known * examples.weights[:, None]
        total = (examples.weights[:, None] * known).sum(dim=0)
        heads = total > 0
        unexplained = squared.sum(dim=0)[heads] / total[heads] / variance[heads]
        return {"score": float((1 - unexplained).mean())}

    return validate


def _variance(examples: Examples) -> Float[Tensor, "heads"]:
    known = torch.isfinite(examples.targets)
    count = known.sum(dim=0).clamp(min=1)
    filled = examples.targets.nan_to_num()
    mean = filled.sum(dim=0) / count
    return (((filled - mean).square() * known).sum(dim=0) / count).clamp(min=LEAST_VARIANCE)


def _shuffled(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
