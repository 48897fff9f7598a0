"""The one training loop: backbones, heads and losses of every method go through it.

The n-th step is a function of the seed and n (see `samples`), and a checkpoint holds everything else, so a
run that was killed goes on to the same weights as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError, InputError
from ..types import Batch
from .checkpoint import load_checkpoint, save_checkpoint
from .config import TrainerConfig
from .device import pick_device, pick_precision
from .reporting import TrainingReport

StepLoss = Callable[[nn.Module, Batch, int], Mapping[str, Tensor]]
"""(module, batch, step) -> named losses; the entry `total` is minimised."""
BatchSource = Callable[[int], Batch]
"""Step number -> batch."""
Validation = Callable[[nn.Module], Mapping[str, float]]
"""Module -> named values; the entry `score` is maximised."""


def train(
    module: nn.Module,
    loss: StepLoss,
    batches: BatchSource,
    steps_per_epoch: int,
    config: TrainerConfig,
    folder: Path | None = None,
    validate: Validation | None = None,
    title: str = "training",
) -> nn.Module:
    """Optimise `module` in place; return its best (or last, without validation) averaged copy, in eval mode.

    Args:
        module: only parameters that require a gradient are trained.
        loss: named losses of a batch; `total` is minimised.
        batches: the batch of a step.
        steps_per_epoch: steps between two validations.
        config: see `TrainerConfig`.
        folder: for checkpoints and logs; a checkpoint found there is resumed. None keeps nothing.
        validate: `score` decides which epoch is kept.
        title: shown beside the progress bar.

    Raises:
        ConfigError: a loss that is no longer finite, or a checkpoint of a run with other settings.
        InputError: a validation score that is not a number.
        StorageError: a checkpoint that cannot be read or written.
    """
    device = pick_device(config.device)
    module.to(device)
    average, best = deepcopy(module), deepcopy(module)
    modules = {"module": module, "average": average, "best": best}
    optimiser = _make_optimiser(module, config)
    run = _Run(module, average, loss, batches, optimiser, config, steps_per_epoch, device)
    state: dict[str, Any] = {"step": 0, "best": -math.inf, "best_epoch": 0, "seconds": 0.0}
    state["settings"] = run.settings()
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    if checkpoint is not None and checkpoint.exists():
        state |= load_checkpoint(checkpoint, modules, optimiser)
        _refuse_other_settings(checkpoint, state["settings"], run.settings())
    with TrainingReport(folder, title, config.epochs, steps_per_epoch, int(state["step"])) as report:
        last = min(config.epochs, config.stop_after or config.epochs)
        for epoch in range(int(state["step"]) // steps_per_epoch, last):
            if config.patience and epoch - state["best_epoch"] > config.patience:
                report.say(f"no better score for {config.patience} epochs: stopped before epoch {epoch + 1}")
                break
            start = time.perf_counter()
            losses, rate = run.epoch(epoch, report)
            values = dict(validate(average.eval())) if validate else {}
            score = _score(values, epoch) if validate else float(epoch)
            if score > state["best"]:
                state |= {"best": score, "best_epoch": epoch}
                best.load_state_dict(average.state_dict())
            seconds = time.perf_counter() - start
            state |= {"step": (epoch + 1) * steps_per_epoch, "seconds": state["seconds"] + seconds}
            report.epoch(epoch, losses, values, seconds, rate)
            if checkpoint is not None:
                save_checkpoint(checkpoint, {k: m.state_dict() for k, m in modules.items()}, optimiser, state)
    return best.eval()


@dataclass(frozen=True)
class _Run:
    """What stays the same from epoch to epoch."""

    module: nn.Module
    average: nn.Module
    loss: StepLoss
    batches: BatchSource
    optimiser: torch.optim.Optimizer
    config: TrainerConfig
    steps_per_epoch: int
    device: torch.device

    def settings(self) -> dict[str, Any]:
        """What a resumed run must agree on; it may go on on another device."""
        fields = asdict(self.config) | {"steps_per_epoch": self.steps_per_epoch}
        return {name: value for name, value in fields.items() if name != "device"}

    def epoch(self, epoch: int, report: TrainingReport) -> tuple[dict[str, float], float]:
        """Mean losses of one pass and its last learning rate."""
        means: dict[str, float] = {}
        rate = 0.0
        _train_mode(self.module)
        for step in range(epoch * self.steps_per_epoch, (epoch + 1) * self.steps_per_epoch):
            torch.manual_seed(self.config.seed * 1_000_003 + step)
            rate = _learning_rate(self.config, step, self.config.epochs * self.steps_per_epoch)
            losses = self._step(_to(self.batches(step), self.device), step, rate)
            _follow(self.average, self.module, self.config.average, step)
            for name, value in losses.items():
                means[name] = means.get(name, 0.0) + value / self.steps_per_epoch
            report.advance()
        return means, rate

    def _step(self, batch: Batch, step: int, rate: float) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        precision = pick_precision(self.config.precision, self.device)
        with torch.autocast(self.device.type, dtype=precision, enabled=precision is not torch.float32):
            losses = self.loss(self.module, batch, step)
        values = {name: float(value.detach()) for name, value in losses.items()}
        if not math.isfinite(values["total"]):
            raise ConfigError(
                f"The loss is {values['total']} at step {step}, expected a finite number; lower the learning "
                "rate, or use precision=float32."
            )
        self.optimiser.zero_grad(set_to_none=True)
        losses["total"].backward()
        nn.utils.clip_grad_norm_([p for p in self.module.parameters() if p.requires_grad], self.config.clip)
        self.optimiser.step()
        return values


def _refuse_other_settings(checkpoint: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    different = [name for name in now if before.get(name) != now[name]]
    if different:
        raise ConfigError(
            f"{checkpoint}: belongs to a run with other settings ({', '.join(different)}); choose another "
            "folder, or delete it to start anew."
        )


def _train_mode(module: nn.Module) -> None:
    """Training mode, except for parts whose parameters are all frozen: their statistics stay as they are."""
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(p.requires_grad for p in parameters):
            part.eval()


def _score(values: Mapping[str, float], epoch: int) -> float:
    score = values.get("score", math.nan)
    if math.isnan(score):
        raise InputError(
            f"The validation score of epoch {epoch + 1} is not a number; does any validation case hold "
            "foreground?"
        )
    return score


def _make_optimiser(module: nn.Module, config: TrainerConfig) -> torch.optim.Optimizer:
    groups = _parameter_groups(module)
    if config.optimiser == "sgd":
        return torch.optim.SGD(
            groups, config.learning_rate, momentum=0.99, nesterov=True, weight_decay=config.weight_decay
        )
    return torch.optim.AdamW(groups, config.learning_rate, weight_decay=config.weight_decay)


def _parameter_groups(module: nn.Module) -> list[dict[str, Any]]:
    """What is trained; parts of the module may name parameters that weight decay leaves alone, as `undecayed`, and
    parameters that learn at a share of the rate, as `shares`."""
    free = {id(p) for part in module.modules() for p in getattr(part, "undecayed", ())}
    shares = {id(p): share for part in module.modules() for p, share in getattr(part, "shares", ())}
    groups: dict[tuple[bool, float], dict[str, Any]] = {}
    for p in (p for p in module.parameters() if p.requires_grad):
        key = (id(p) in free, shares.get(id(p), 1.0))
        group = {"params": [], "share": key[1]} | ({"weight_decay": 0.0} if key[0] else {})
        groups.setdefault(key, group)["params"].append(p)
    return list(groups.values()) or [{"params": [], "share": 1.0}]


def _learning_rate(config: TrainerConfig, step: int, total: int) -> float:
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, total - config.warmup)
    if config.schedule == "poly":
        return config.learning_rate * (1 - done) ** 0.9
    span = config.learning_rate - config.final_learning_rate
    return config.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float, step: int) -> None:
    # A short memory at the start, so that the first weights do not linger.
    decay = min(decay, (1 + step) / (10 + step))
    for mean, value in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(value, 1 - decay)
        else:
            mean.copy_(value)


def _to(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    label, index = (
        None if t is None else t.to(device, non_blocking=True) for t in (batch.label, batch.index)
    )
    return Batch(batch.image.to(device, non_blocking=True), batch.prompt, label, index)
