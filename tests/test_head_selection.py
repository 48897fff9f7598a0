"""How long heads are trained: judged on cases they did not see, never on those they did."""

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError
from sfumato.heads.crops import FeatureSource
from sfumato.heads.selection import STRETCHES, best_stretch, near_auroc, stretched, train_head
from sfumato.interfaces import FitContext
from sfumato.methods.error_head.config import ErrorHeadConfig
from sfumato.methods.error_head.fit import _loss_of, make_head
from sfumato.metrics import region_masks, selective
from sfumato.training.config import TrainerConfig


@pytest.fixture
def source(tiny_segmenter, phantoms):
    segmenter = tiny_segmenter("softmax_2d")
    return FeatureSource(segmenter, phantoms("softmax_2d", 6, seed=21), segmenter.spec.window, 1, 0, 2**30)


def fresh_head(source, **changes):
    config = ErrorHeadConfig(width=8, hidden=8, epochs=8, learning_rate=5e-3, **changes)
    torch.manual_seed(0)
    return make_head(config, source.segmenter), config


@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (4, 110), (30, 35), (200, 3), (3, 2)])
def test_stretches_cover_the_steps(epochs, steps):
    trainer, stretch = stretched(TrainerConfig(epochs=epochs), steps)
    assert trainer.epochs <= STRETCHES
    assert epochs * steps <= trainer.epochs * stretch < epochs * steps + trainer.epochs


def test_a_part_draws_from_its_cases_alone_and_shares_features(source):
    part = source.only([1, 4])
    assert {case for case, _ in part.rows} == {1, 4}
    assert len(source.rows) == 6
    assert part.segmentation(1) is source.segmentation(1)
    drawn = {part._drawn(step)[0][0] for step in range(part.steps_per_epoch)}
    assert drawn == {1, 4}


def test_held_out_auroc_is_that_of_the_ranking_near_the_foreground(source):
    head, _ = fresh_head(source)
    expected = []
    for index in (0, 3):
        case, segmentation = source.cases[index], source.segmentation(index)
        ranking = head.eval().logit(segmentation)[0, 0].detach().numpy()
        given, truth = segmentation.labels()[0].numpy(), case.label[0].numpy()
        near = region_masks(given, truth)["near"]
        expected.append(selective(ranking[near], (given != truth)[near]).auroc)
    assert near_auroc(source, head.eval(), [0, 3]) == pytest.approx(np.mean(expected), abs=1e-6)


def test_the_first_best_mean_is_chosen_and_undefined_folds_do_not_count():
    said = []
    context = FitContext(say=said.append)
    table = np.array([[0.5, 0.7, 0.9, 0.9], [0.5, 0.7, np.nan, 0.6]])
    assert best_stretch(table, 10, context) == 2
    assert "after 20 steps" in said[0]
    assert best_stretch(np.full((2, 4), np.nan), 10, context) == 3
    assert best_stretch(np.array([[0.9, 0.8]]), 10, context) == 0


def test_no_stretch_leaves_the_head_as_it_came(source, monkeypatch):
    head, config = fresh_head(source, folds=2)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    monkeypatch.setattr("sfumato.heads.selection.best_stretch", lambda table, steps, context: 0)
    trained = train_head(head, source, _loss_of, config, FitContext(device="cpu"), "fit")
    assert all(torch.equal(trained.state_dict()[k], v) for k, v in before.items())


def test_stopping_early_is_the_long_run_cut_short(source, tmp_path, monkeypatch):
    monkeypatch.setattr("sfumato.heads.selection.best_stretch", lambda table, steps, context: 2)
    head, config = fresh_head(source, folds=2)
    train_head(head, source, _loss_of, config, FitContext(tmp_path / "a", device="cpu"), "fit")
    rows = (tmp_path / "a" / "log.csv").read_text().splitlines()
    monkeypatch.setattr("sfumato.heads.selection.best_stretch", lambda table, steps, context: 4)
    other, _ = fresh_head(source, folds=2)
    train_head(other, source, _loss_of, config, FitContext(tmp_path / "b", device="cpu"), "fit")
    longer = (tmp_path / "b" / "log.csv").read_text().splitlines()
    assert len(rows) == 1 + 2
    assert [r.split(",")[:2] for r in rows] == [r.split(",")[:2] for r in longer[:3]]


def test_the_choice_is_repeatable_and_trains_on_all_cases_in_the_end(source):
    said: list[list[str]] = [[], []]
    states = []
    for lines in said:
        head, config = fresh_head(source, folds=3)
        trained = train_head(
            head, source, _loss_of, config, FitContext(device="cpu", say=lines.append), "fit"
        )
        states.append(trained.state_dict())
    assert said[0] == said[1]
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_a_negative_number_of_folds_is_refused():
    with pytest.raises(ConfigError, match="folds=-1"):
        ErrorHeadConfig(folds=-1)
