"""Training of a text-guided network on whole images with a sentence each.

Das et al., arXiv 2602.14498, section on the training: AdamW, cosine schedule, images of 224 x 224, batches of 32, early
stopping. Here validation cases are others than the training's, weights stay in train mode after a validation, norms,
biases and decay rates are not decayed, and rows lose their sentence by chance, so that an image without one is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import ConfigError, UnknownNameError
from ...metrics.overlap import dice_per_class
from ...training.config import TrainerConfig
from ...training.loop import StepLoss, Validation, train
from ...training.samples import PatchSampler, Sample
from ...types import Batch, Link, Segmentation
from .augmentation import truthful_augmentation
from .config import TextGuidedConfig
from .image_encoder import build_image_encoder
from .losses import SeuLoss
from .model import TextGuidedNetwork
from .segmenter import SIDE
from .text_encoder import TextEncoder
from .told_samples import SentenceTable, ToldSample, scaled_sample
from .uncertainty_loss import uncertainty_loss

LOSSES = ("seu", "cross_entropy")
VALIDATED = 8
"""Images at once."""


@dataclass(frozen=True)
class TextTraining:
    """How a text-guided network is trained.

    Args:
        side: images are scaled to this many pixels along both axes.
        batch_size: images per step.
        augment: strength of the augmentation, see `truthful_augmentation`.
        image_dropout: share of the images that noise takes the place of, so that words are read before all images are
            known by heart.
        image_rate: the image encoder learns at this share of the rate; 0 keeps it as it was trained before.
        loss: `seu`, as the network's settings weigh it, or `cross_entropy` alone, to compare with.
        trainer: how to optimise.

    Raises:
        UnknownNameError: another loss.
        ConfigError: no images per step.
    """

    side: int = SIDE
    batch_size: int = 16
    augment: float = 1.0
    image_dropout: float = 0.0
    image_rate: float = 1.0
    loss: Literal["seu", "cross_entropy"] = "seu"
    trainer: TrainerConfig = field(
        default_factory=lambda: TrainerConfig(
            epochs=40, learning_rate=3e-4, final_learning_rate=1e-6, clip=1.0, patience=20
        )
    )

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise UnknownNameError("loss", self.loss, LOSSES)
        if self.batch_size < 1:
            raise ConfigError(f"batch_size={self.batch_size}, expected at least 1.")
        if not 0 <= self.image_rate <= 1:
            raise ConfigError(f"image_rate={self.image_rate}, expected a share from 0 to 1.")


def build_network(config: TextGuidedConfig, encoder: TextEncoder, seed: int = 0) -> TextGuidedNetwork:
    """A network to be trained: the image encoder as its settings say, the rest random.

    Raises:
        MissingExtraError, StorageError: see `build_image_encoder`.
    """
    torch.manual_seed(seed)
    image_encoder = build_image_encoder(config.image_encoder, config.image_weights, config.channels)
    return TextGuidedNetwork(image_encoder, config, encoder.width)


def train_network(
    network: TextGuidedNetwork,
    fitting: Sequence[ToldSample],
    validation: Sequence[ToldSample],
    encoder: TextEncoder,
    training: TextTraining,
    folder: Path | None = None,
) -> TextGuidedNetwork:
    """Optimise a network in place; return its best averaged copy (the last one without validation), in eval mode.

    Every distinct sentence is encoded once, before the first step; the encoder is not trained.

    Args:
        network: from `build_network`.
        fitting: of at least one case; names differ.
        validation: of other patients; their mean Dice with their sentences decides which epoch is kept.
        encoder: of the sentences.
        training: see `TextTraining`.
        folder: for checkpoints and logs; a checkpoint found there is resumed exactly. None keeps nothing.

    Raises:
        ConfigError: no case, or see `sfumato.training.loop.train`.
        InputError: validation without any foreground.
    """
    if not fitting:
        raise ConfigError("No case to train on, expected at least one.")
    samples = [scaled_sample(s, training.side) for told in fitting for s in told.samples]
    changed = training.augment or training.image_dropout
    augment = truthful_augmentation(training.augment, training.image_dropout) if changed else None
    seed = training.trainer.seed
    sampler = PatchSampler(samples, (training.side,) * 2, training.batch_size, 0.0, seed, augment)
    sentences = {s.case or s.name: told.sentence for told in fitting for s in told.samples}
    table = SentenceTable([sentences[case] for case in sampler.cases], encoder)
    network.standardise(table.features.states, table.features.keep)
    trained = train(
        _Groups(network, training.image_rate),
        step_loss(network.config, training.loss, table),
        sampler.batch,
        sampler.steps_per_epoch,
        training.trainer,
        folder,
        told_validation(validation, encoder, training.side) if validation else None,
        title="train text_guided",
    )
    assert isinstance(trained, _Groups)
    return trained.network


def step_loss(config: TextGuidedConfig, loss: str, table: SentenceTable) -> StepLoss:
    """The loss of a batch of numbered cases, see `TextTraining.loss`."""
    seu = SeuLoss(config.uncertainty, config.spectral_weight, config.uncertainty_weight, config.smoothing)

    def losses(module: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        assert batch.label is not None
        assert batch.index is not None
        logits = module(batch.image, **table.of(batch.index)).float()
        if loss == "seu":
            return seu(logits, batch.label)
        return {"total": uncertainty_loss(logits, batch.label, "log_score")}

    return losses


def told_validation(cases: Sequence[ToldSample], encoder: TextEncoder, side: int) -> Validation:
    """Dice of scaled images with their sentences: per foreground class, and its mean as `score`.

    A class that an image neither has nor was given does not count there.

    Args:
        cases: as for training.
        encoder: of their sentences.
        side: images are scaled to it.
    """
    samples = [(scaled_sample(s, side), told.sentence) for told in cases for s in told.samples]
    table = SentenceTable([sentence for _, sentence in samples], encoder)

    def validate(module: nn.Module) -> Mapping[str, float]:
        rows = []
        for index, logits in _answers(module, [s for s, _ in samples], table):
            link = Link.SIGMOID if logits.shape[1] == 1 else Link.SOFTMAX
            labels = Segmentation(logits, link).labels().cpu().numpy()
            classes = max(2, logits.shape[1])
            rows += [
                dice_per_class(m, samples[i][0].label, classes) for i, m in zip(index, labels, strict=True)
            ]
        means = [float(np.nanmean(c)) for c in np.array(rows).T if np.isfinite(c).any()]
        return {"score": float(np.mean(means)) if means else float("nan")}

    return validate


@torch.no_grad()
def _answers(
    module: nn.Module, samples: Sequence[Sample], table: SentenceTable
) -> Iterator[tuple[range, Tensor]]:
    device = next(module.parameters()).device
    for first in range(0, len(samples), VALIDATED):
        index = range(first, min(first + VALIDATED, len(samples)))
        image = torch.from_numpy(np.stack([samples[i].image for i in index])).to(device)
        yield index, module(image, **table.of(torch.tensor(index, device=device)))


class _Groups(nn.Module):
    """What weight decay leaves alone (norms, biases, scales, the mixer's rates), and how fast the image encoder learns.

    The authors decay everything, and train everything at one rate.
    """

    def __init__(self, network: TextGuidedNetwork, image_rate: float):
        super().__init__()
        self.network, self.image_rate = network, image_rate
        self.network.encoder.requires_grad_(image_rate > 0)

    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        if self.network.config.profile != "fixed":
            return ()
        named = self.network.named_parameters()
        return tuple(p for name, p in named if p.dim() < 2 or name.endswith("log_decay"))

    @property
    def shares(self) -> tuple[tuple[nn.Parameter, float], ...]:
        return tuple((p, self.image_rate) for p in self.network.encoder.parameters())

    def forward(self, image: Tensor, **told: Tensor) -> Tensor:
        return self.network(image, **told)
