from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.errors import InputError
from sfumato.heads import voxels as voxels_module
from sfumato.heads.error_table import ErrorTable, fit_error_table
from sfumato.heads.requirements import need_cases, need_frozen, need_some
from sfumato.heads.voxels import Voxels
from sfumato.types import Batch, Kind, Link, Segmentation, Uncertainty


def case(seed: int, link: Link = Link.SOFTMAX, voxels: int = 50):
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1 if link is Link.SIGMOID else 3, voxels, generator=g)
    label = torch.randint(-1, 2, (2, voxels), generator=g)
    return Segmentation(logits, link), label, logits[:, 0], logits[:, 0].exp()


@pytest.mark.parametrize("link", list(Link))
def test_labelled_voxels_stay_together(link):
    cases = [case(seed, link) for seed in (0, 1)]
    found = Voxels.gather(cases, 2, seed=0)
    for i, (segmentation, label, score, _) in enumerate(cases):
        known = label != -1
        assert torch.equal(found.labels[i], label[known])
        assert torch.equal(found.scores[i], score[known])
        torch.testing.assert_close(found.temperatures[i], score[known].exp())
        assert torch.equal(found.logits[i], segmentation.full_logits().movedim(1, 0)[:, known])
        assert torch.equal(found.wrong()[i], (segmentation.labels() != label)[known])


def test_too_many_voxels_are_thinned_by_the_seed(monkeypatch):
    monkeypatch.setattr(voxels_module, "VOXEL_LIMIT", 20)
    cases = [case(seed) for seed in (0, 1)]
    one, same, other = (Voxels.gather(cases, 2, seed=s) for s in (0, 0, 1))
    assert [len(y) for y in one.labels] == [10, 10]
    assert torch.equal(one.scores[0], same.scores[0])
    assert not torch.equal(one.scores[0], other.scores[0])


class Ranked(nn.Module):
    """RANKING is the image."""

    def respond(self, batch, segmentation):
        return {"image": batch.image}

    def estimate(self, batch, segmentation):
        return Uncertainty({Kind.RANKING: segmentation.features["image"][:, 0]})


class Zero:
    """Always class 0."""

    def segment(self, batch):
        return Segmentation(
            torch.tensor([1.0, 0.0]).reshape(1, 2, 1).expand(1, 2, batch.image.shape[2]), Link.SOFTMAX
        )


def test_a_table_is_fitted_on_labelled_voxels_alone():
    image = torch.linspace(0, 1, 1000).reshape(1, 1, 1000)
    label = (image[:, 0] > 0.8).long()
    label[:, 900:] = -1
    table = ErrorTable()
    fit_error_table(table, Ranked(), Zero(), [Batch(image, label=label)], seed=0)
    assert table(torch.tensor([0.1, 0.3])).max() < 0.01
    assert table(torch.tensor([0.88, 2.0])).min() > 0.99
    with pytest.raises(InputError, match="Case 0 carries no label"):
        fit_error_table(ErrorTable(), Ranked(), Zero(), [Batch(image)], seed=0)


def test_what_is_missing_is_said(segmenter):
    frozen = segmenter()
    assert need_frozen(frozen, "it", "reads features") is frozen
    with pytest.raises(InputError, match=r"it reads features, got a Zero.*wrap"):
        need_frozen(Zero(), "it", "reads features")
    with pytest.raises(InputError, match="it got 0 fitting and 1 calibration cases"):
        need_cases([], [Batch(torch.zeros(1, 1, 2))], "it")
    with pytest.raises(InputError, match="it got 0 fitting cases"):
        need_some([], "it", "fitting")
