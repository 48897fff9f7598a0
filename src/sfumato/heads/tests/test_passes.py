from __future__ import annotations

import pytest
import torch

from sfumato.errors import InputError
from sfumato.heads.passes import PassesEstimator, PassSource
from sfumato.interfaces import Estimator, ScoresCases
from sfumato.types import Batch, Kind, Link, Segmentation


class Given(PassSource):
    """Passes that are handed in, (passes, batch, classes, *grid)."""

    def __init__(self, stacked):
        super().__init__()
        self.stacked = stacked

    @property
    def sample_count(self):
        return len(self.stacked)

    @property
    def pass_count(self):
        return len(self.stacked) + 1

    def probabilities(self, batch, segmentation):
        yield from self.stacked


@pytest.fixture
def stacked():
    return torch.softmax(2 * torch.randn(4, 2, 3, 5, 6, generator=torch.Generator().manual_seed(0)), dim=2)


def judged(stacked, logits, link=Link.SOFTMAX):
    estimator = PassesEstimator(Given(stacked)).eval()
    batch, segmentation = Batch(torch.zeros(len(logits), 1, *logits.shape[2:])), Segmentation(logits, link)
    reduced = Segmentation(logits, link, estimator.respond(batch, segmentation))
    uncertainty = estimator.estimate(batch, reduced)
    return estimator, reduced, uncertainty, estimator.case_scores(estimator.case_sums(batch, reduced))


def slow_entropy(p):
    return -sum(float(x) * float(torch.log(x)) for x in p)


def test_every_map_is_its_formula(stacked):
    logits = torch.randn(2, 3, 5, 6, generator=torch.Generator().manual_seed(1))
    _, _, uncertainty, _ = judged(stacked, logits)
    for row, y, x in ((0, 0, 0), (1, 4, 5), (0, 2, 3)):
        passes = stacked[:, row, :, y, x]
        mean = passes.mean(0)
        predictive = slow_entropy(mean)
        aleatoric = sum(slow_entropy(p) for p in passes) / 4
        label = int(logits[row, :, y, x].argmax())
        expected = {
            Kind.PREDICTIVE: predictive,
            Kind.ALEATORIC: aleatoric,
            Kind.EPISTEMIC: predictive - aleatoric,
            Kind.ERROR: 1 - float(mean[label]),
        }
        for kind, value in expected.items():
            assert float(uncertainty.maps[kind][row, y, x]) == pytest.approx(value, abs=1e-5), kind
        torch.testing.assert_close(uncertainty.probability[row, :, y, x], mean)


def test_the_label_is_the_segmenter_s_even_where_the_mean_disagrees():
    stacked = torch.tensor([0.2, 0.8]).reshape(1, 1, 2, 1).expand(3, 1, 2, 1)
    _, _, uncertainty, _ = judged(stacked, torch.tensor([3.0, 0.0]).reshape(1, 2, 1))
    assert uncertainty.probability.argmax(dim=1).item() == 1
    assert uncertainty.maps[Kind.ERROR].item() == pytest.approx(0.8)


def test_a_sigmoid_link_has_two_classes():
    stacked = torch.tensor([0.4, 0.6]).reshape(1, 1, 2, 1).expand(2, 1, 2, 1)
    _, _, uncertainty, scores = judged(stacked, torch.tensor([[[1.0]]]), Link.SIGMOID)
    assert uncertainty.maps[Kind.ERROR].item() == pytest.approx(0.4)
    assert scores[Kind.ERROR].item() == 0


def test_the_case_score_is_one_minus_the_dice_between_passes():
    chosen = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 1, 0]]])  # two passes, one row: Dice 1/2
    stacked = torch.nn.functional.one_hot(chosen, 2).movedim(-1, 2).float()
    _, _, _, scores = judged(stacked, torch.zeros(1, 2, 4))
    assert scores[Kind.ERROR].tolist() == pytest.approx([0.5])


def test_it_is_an_estimator_that_scores_cases_and_says_what_it_costs(stacked):
    estimator = PassesEstimator(Given(stacked))
    assert isinstance(estimator, Estimator)
    assert isinstance(estimator, ScoresCases)
    assert estimator.pass_count == 5


def test_missing_responses_are_our_error(stacked):
    estimator = PassesEstimator(Given(stacked))
    bare = Segmentation(torch.zeros(1, 3, 2, 2), Link.SOFTMAX, {"mean": torch.zeros(1, 3, 2, 2)})
    batch = Batch(torch.zeros(1, 1, 2, 2))
    for function in (estimator.estimate, estimator.case_sums):
        with pytest.raises(InputError, match=r"expected_entropy, votes.*respond"):
            function(batch, bare)
