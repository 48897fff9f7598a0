from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, UnknownNameError
from sfumato.interfaces import FitContext
from sfumato.measures.entropy import entropy
from sfumato.methods.mc_dropout import METHOD, McDropoutConfig
from sfumato.methods.mc_dropout.hooks import changed, choose_places, dropping, own_layers
from sfumato.methods.mc_dropout.masks import drop
from sfumato.segmenters import wrap
from sfumato.types import Batch, Kind

CONTEXT = FitContext(device="cpu")


class WithDropout(nn.Module):
    """Two convolutions and a dropout layer between them."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.dropout = nn.Dropout2d(rate, inplace=True)
        self.last = nn.Conv2d(16, 2, 1)

    def forward(self, image):
        return self.last(self.dropout(self.first(image).relu()))


def network(rate=0.5):
    torch.manual_seed(0)
    return wrap(WithDropout(rate), 2, spatial_dims=2, window=(8, 8), divisor=1)


@pytest.fixture
def batch():
    return Batch(torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


def hooks_of(module):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules()]


def test_the_mean_is_that_of_a_slow_twin(batch):
    segmenter = network()
    method = METHOD.build(McDropoutConfig(passes=4, seed=3), segmenter)
    module, passes = segmenter.module, []
    for number in range(4):
        rows = []
        for row in batch.image:
            generator = torch.Generator().manual_seed(3 * 1_000_003 + number)
            features = module.first(row[None]).relu()
            rows.append(torch.softmax(module.last(drop(features, 0.5, (1, 16), generator)), dim=1))
        passes.append(torch.cat(rows))
    stacked = torch.stack(passes).detach()
    uncertainty = method.predict(batch).uncertainty
    torch.testing.assert_close(uncertainty.probability, stacked.mean(0))
    torch.testing.assert_close(uncertainty.maps[Kind.PREDICTIVE], entropy(stacked.mean(0)))
    expected = torch.stack([entropy(p) for p in stacked]).mean(0)
    torch.testing.assert_close(uncertainty.maps[Kind.ALEATORIC], expected)


def test_passes_differ_from_each_other_and_from_the_plain_one(batch):
    segmenter = network()
    source = METHOD.build(McDropoutConfig(passes=3), segmenter).estimator.source
    plain = segmenter.segment(batch)
    found = [plain.probability(), *source.probabilities(batch, plain)]
    for i, one in enumerate(found):
        assert all(not torch.allclose(one, other, atol=1e-3) for other in found[i + 1 :])


@pytest.mark.parametrize("where", ["own", "taps"])
def test_nothing_is_left_behind(where, batch):
    segmenter = network()
    before = {k: v.clone() for k, v in segmenter.module.state_dict().items()}
    method = METHOD.build(McDropoutConfig(passes=2, where=where), segmenter)
    state, hooks = torch.random.get_rng_state(), hooks_of(segmenter.module)
    method.predict(batch)
    passes = method.estimator.source.probabilities(batch, segmenter.segment(batch))
    next(passes)  # a caller that stops in the middle
    assert hooks_of(segmenter.module) == hooks
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in segmenter.module.state_dict().items())
    assert not any(m.training for m in segmenter.module.modules())


def test_hooks_go_when_the_network_fails():
    segmenter = network()
    before = hooks_of(segmenter.module)
    with (
        pytest.raises(ZeroDivisionError),
        dropping(segmenter.module, own_layers(segmenter.module), 0.1, torch.Generator(), 0),
    ):
        raise ZeroDivisionError
    assert hooks_of(segmenter.module) == before


def test_the_seed_decides(batch):
    one, same, other = (
        METHOD.build(McDropoutConfig(passes=2, seed=s), network()).predict(batch) for s in (0, 0, 1)
    )
    assert torch.equal(one.probability(), same.probability())
    assert not torch.allclose(one.probability(), other.probability(), atol=1e-3)


def test_auto_takes_own_layers_first_and_says_what_it_does(segmenter):
    lines: list[str] = []
    context = replace(CONTEXT, say=lines.append)
    own = METHOD.fit(McDropoutConfig(), network(), [], [], context)
    assert [type(p).__name__ for p in own.estimator.source.places] == ["Dropout2d"]
    inserted = METHOD.fit(McDropoutConfig(rate=0.2), segmenter(), [], [], context)
    assert [p.text for p in inserted.estimator.source.places] == ["pool", "classifier:input"]
    assert lines == [
        "1 dropout layers of the network stay on",
        "channel dropout at a rate of 0.2 is inserted at pool, classifier:input; the network was not trained with it",
    ]
    assert own.estimator.pass_count == 11


def test_channels_fall_out_at_the_taps(segmenter, cases):
    frozen, case = segmenter(), Batch(cases(1, 3)[0].image)
    source = METHOD.build(McDropoutConfig(passes=1, rate=0.5), frozen).estimator.source
    features = frozen.module.features(case.image)
    generator = torch.Generator().manual_seed(0)
    drop(
        frozen.module.pool(features), 0.5, (1, 4), generator
    )  # the pool draws first; nobody reads its output
    expected = torch.softmax(frozen.module.classifier(drop(features, 0.5, (1, 4), generator)), dim=1)
    (found,) = source.probabilities(case, frozen.segment(case))
    torch.testing.assert_close(found, expected)


def test_layers_that_drop_nothing_do_not_count():
    assert own_layers(network(0.0).module) == []
    with pytest.raises(ConfigError, match="where='taps'"):
        choose_places(McDropoutConfig(where="own"), network(0.0))


def test_a_network_without_any_place_is_refused():
    outside = wrap(lambda x: torch.cat([x, -x], dim=1), 2, spatial_dims=2, window=(8, 8), divisor=1)
    with pytest.raises(ConfigError, match=r"image.*logits"):
        METHOD.build(McDropoutConfig(), outside)


class Pair(NamedTuple):
    a: object
    b: object


def test_one_tensor_of_a_nest_is_changed():
    twice = lambda t: 2 * t
    one = torch.ones(1)
    assert changed((1, [one, one]), (), twice)[1] == [2 * one, one]
    assert changed({"x": (one, one)}, ("x", "-1"), twice)["x"] == (one, 2 * one)
    assert changed(Pair(3, one), ("1",), twice) == Pair(3, 2 * one)


def test_wrong_settings_are_refused():
    with pytest.raises(UnknownNameError, match="taps"):
        McDropoutConfig(where="tap")
    for name, value in (("passes", 0), ("rate", 0.0), ("rate", 1.0), ("seed", -1)):
        with pytest.raises(ConfigError, match=f"{name}={value}"):
            McDropoutConfig(**{name: value})
