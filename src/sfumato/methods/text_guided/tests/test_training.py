"""Training: sentences by number, losses, exact resume, and a network that learns to do as it is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sfumato.errors import ConfigError, UnknownNameError
from sfumato.methods.text_guided.losses import SeuLoss
from sfumato.methods.text_guided.told_samples import SentenceTable, ToldSample, scaled_sample
from sfumato.methods.text_guided.training import (
    TextTraining,
    _Groups,
    step_loss,
    told_validation,
    train_network,
)
from sfumato.training import loop
from sfumato.training.config import TrainerConfig
from sfumato.training.samples import Sample
from sfumato.types import Batch

SIDE = 32
SENTENCES = ("disc on the left", "disc on the right")


def told_discs(count: int, seed: int, turn: int = 0) -> list[ToldSample]:
    """A disc on each side; the sentence says which of the two is meant, and by its picture nobody could."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    found = []
    for i in range(count):
        rows, columns = generator.integers(10, 22, 2), generator.integers((6, 22), (10, 26))
        discs = [np.hypot(y - row, x - column) <= 5 for row, column in zip(rows, columns, strict=True)]
        image = np.stack([discs[0] | discs[1]] * 3) * 2.0 - 0.5
        image += 0.1 * generator.standard_normal(image.shape)
        meant = (i + turn) % 2
        label = discs[meant].astype(np.int16)
        sample = Sample(image.astype(np.float32), label, f"case {i} {SENTENCES[meant]}", f"patient {i}")
        found.append(ToldSample((sample,), SENTENCES[meant]))
    return found


def settings(**changes) -> TextTraining:
    known = {"epochs": 2, "learning_rate": 1e-3, "warmup": 2, "clip": 1.0, "precision": "float32"}
    return TextTraining(SIDE, batch_size=4, trainer=TrainerConfig(**(known | {"device": "cpu"} | changes)))


def test_every_distinct_sentence_is_encoded_once_and_found_by_number(tiny_encoder):
    encoder, said = tiny_encoder(), [SENTENCES[0], None, SENTENCES[1], SENTENCES[0], "nan"]
    table = SentenceTable(said, encoder)
    assert encoder.encoded == 3
    told = table.of(torch.tensor([3, 1, 2, 4]))
    for row, number in enumerate((3, 1, 2, 4)):
        alone = tiny_encoder().encode([said[number]])
        torch.testing.assert_close(told["text"][row], alone.states[0])
        assert torch.equal(told["keep"][row], alone.keep[0])
        assert bool(told["present"][row]) is (number not in (1, 4))
    table.of(torch.tensor([0, 2]))
    assert encoder.encoded == 3


def test_scaled_labels_are_the_nearest_pixels_of_a_loop():
    generator = np.random.default_rng(2)
    label = generator.integers(-1, 3, (23, 41)).astype(np.int16)
    small = scaled_sample(Sample(np.zeros((1, 23, 41), np.float32), label, "a", "b"), 16)
    for row, column in np.ndindex(16, 16):
        nearest = label[int((row + 0.5) * 23 / 16), int((column + 0.5) * 41 / 16)]
        assert small.label[row, column] == nearest
    assert (small.name, small.patient, small.label.dtype) == ("a", "b", np.int16)


@pytest.mark.parametrize("loss", ["seu", "cross_entropy"])
def test_losses_are_those_of_their_names(tiny_network, tiny_encoder, loss):
    told, network = told_discs(4, 0), tiny_network()
    table = SentenceTable([t.sentence for t in told], tiny_encoder())
    index = torch.tensor([2, 0])
    image = torch.from_numpy(np.stack([told[i].samples[0].image for i in index.tolist()]))
    label = torch.from_numpy(np.stack([told[i].samples[0].label for i in index.tolist()])).long()
    found = step_loss(network.config, loss, table)(network, Batch(image, None, label, index), 0)
    logits = network(image, **table.of(index))
    expected = (
        SeuLoss()(logits, label)
        if loss == "seu"
        else {"total": F.binary_cross_entropy_with_logits(logits[:, 0], label.float())}
    )
    assert set(found) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_what_is_not_decayed(tiny_network):
    network = tiny_network()
    free = {id(p) for p in _Groups(network, 1.0).undecayed}
    named = {name for name, p in network.named_parameters() if id(p) in free}
    every = [name for name, _ in network.named_parameters()]
    assert all(
        name in named for name in every if name.endswith((".bias", "cross_scale", "log_decay", "skip"))
    )
    norms = [m for m in network.modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d)]
    assert norms
    assert all(id(p) in free for norm in norms for p in norm.parameters())
    kinds = nn.Linear | nn.Conv2d | nn.ConvTranspose2d
    assert not any(id(m.weight) in free for m in network.modules() if isinstance(m, kinds))
    assert _Groups(tiny_network(profile="released", mask_padding=False), 1.0).undecayed == ()


def test_a_resumed_run_ends_with_the_same_weights(tiny_network, tiny_encoder, tmp_path, monkeypatch):
    def run(folder):
        network = tiny_network(text_dropout=0.3)
        trained = train_network(
            network, told_discs(8, 1), told_discs(4, 2), tiny_encoder(), settings(), folder
        )
        return trained.state_dict()

    whole, epoch = run(tmp_path / "whole"), loop._Run.epoch

    def dies(self, number, report):
        if number == 1:
            raise KeyboardInterrupt
        return epoch(self, number, report)

    with monkeypatch.context() as patch:
        patch.setattr(loop._Run, "epoch", dies)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_language_model_stays_and_every_epoch_trains(tiny_network, tiny_encoder, monkeypatch):
    network, encoder, modes = tiny_network(), tiny_encoder(), []
    before = {k: v.clone() for k, v in encoder.network.state_dict().items()}
    step = loop._Run._step

    def watched(self, batch, number, rate):
        modes.append(self.module.training)
        return step(self, batch, number, rate)

    monkeypatch.setattr(loop._Run, "_step", watched)
    trained = train_network(network, told_discs(8, 1), told_discs(4, 2), encoder, settings())
    assert modes == [True] * 4  # 2 epochs of 2 steps, with a validation between
    assert not trained.training
    after = encoder.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_validation_is_the_dice_of_a_loop(tiny_network, tiny_encoder):
    network, told, encoder, rows = tiny_network(), told_discs(5, 3), tiny_encoder(), []
    for case in told:
        sample, text = case.samples[0], encoder.encode([case.sentence])
        image = torch.from_numpy(sample.image)[None]
        with torch.no_grad():
            found = network(image, text.states, text.keep, text.present)[0, 0].numpy() > 0
        rows.append(2 * (found & (sample.label > 0)).sum() / (found.sum() + (sample.label > 0).sum()))
    assert told_validation(told, encoder, SIDE)(network)["score"] == pytest.approx(np.mean(rows))
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(-1.0)
    empty = [replace(t, samples=(replace(t.samples[0], label=0 * t.samples[0].label),)) for t in told]
    assert np.isnan(told_validation(empty, encoder, SIDE)(network)["score"])


def test_it_learns_to_do_as_it_is_told(tiny_network, tiny_encoder):
    # Every picture comes with both sentences, so what is meant cannot be learnt by heart.
    both = [*told_discs(8, 4), *told_discs(8, 4, turn=1)]
    training = replace(settings(epochs=60, learning_rate=1e-2, average=0.9), augment=0.0, batch_size=8)
    trained = train_network(tiny_network(text_dropout=0.0), both, [], tiny_encoder(), training)
    lied_to = [replace(told, sentence=SENTENCES[told.sentence == SENTENCES[0]]) for told in both]
    assert told_validation(both, tiny_encoder(), SIDE)(trained)["score"] > 0.9
    assert told_validation(lied_to, tiny_encoder(), SIDE)(trained)["score"] < 0.2


def test_slices_of_a_volume_share_its_sentence(tiny_network, tiny_encoder, monkeypatch):
    told = told_discs(2, 5)
    slices = tuple(replace(told[0].samples[0], name=f"scan/{i}", case="scan") for i in range(3))
    seen, inner = [], SentenceTable.of
    monkeypatch.setattr(SentenceTable, "of", lambda self, index: seen.append(inner(self, index)) or seen[-1])
    cases = [ToldSample(slices, "a disc"), told[1]]
    train_network(tiny_network(), cases, [], tiny_encoder(), settings(epochs=1))
    scan, other = tiny_encoder().encode(["a disc", told[1].sentence]).states
    rows = [row for batch in seen for row in batch["text"]]
    assert len(rows) == 4
    assert [sum(torch.equal(row, states) for row in rows) for states in (scan, other)] == [3, 1]


def test_mistakes_are_ours(tiny_network, tiny_encoder):
    with pytest.raises(UnknownNameError, match="loss"):
        TextTraining(loss="magic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch_size=0"):
        TextTraining(batch_size=0)
    with pytest.raises(ConfigError, match="No case"):
        train_network(tiny_network(), [], [], tiny_encoder(), settings())
