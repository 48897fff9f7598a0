from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, InputError
from sfumato.interfaces import FitContext
from sfumato.measures.entropy import entropy
from sfumato.methods.deep_ensemble import METHOD, DeepEnsembleConfig
from sfumato.methods.deep_ensemble.members import padded_probability
from sfumato.segmenters import FrozenSegmenter, Preprocessing, wrap
from sfumato.types import Batch, Kind, Link

CONFIG = DeepEnsembleConfig()


def network(seed: int, classes=3, sigmoid=False, divisor=1, channels=1, **changes) -> FrozenSegmenter:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1 if sigmoid else classes, 1)
        )
    found = wrap(
        module,
        classes,
        spatial_dims=2,
        channels=channels,
        link=Link.SIGMOID if sigmoid else Link.SOFTMAX,
        window=(8, 8),
        divisor=divisor,
        source=f"network {seed}",
    )
    return FrozenSegmenter(found.module, replace(found.spec, **changes)) if changes else found


@pytest.fixture
def batch():
    return Batch(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("sigmoid", [False, True], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("with_segmenter", [False, True])
def test_the_maps_are_those_of_a_slow_twin(sigmoid, with_segmenter, batch):
    shape = {"classes": 2, "sigmoid": True} if sigmoid else {}
    networks = [network(seed, **shape) for seed in (0, 1, 2)]
    method = METHOD.build(DeepEnsembleConfig(with_segmenter), networks[0], networks[1:])
    passes = []
    for member in networks if with_segmenter else networks[1:]:
        logits = member.module(batch.image).detach()
        foreground = torch.sigmoid(logits)
        passes.append(torch.cat([1 - foreground, foreground], 1) if sigmoid else torch.softmax(logits, 1))
    stacked = torch.stack(passes)
    uncertainty = method.predict(batch).uncertainty
    torch.testing.assert_close(uncertainty.probability, stacked.mean(0))
    torch.testing.assert_close(uncertainty.maps[Kind.PREDICTIVE], entropy(stacked.mean(0)))
    expected = torch.stack([entropy(p) for p in stacked]).mean(0)
    torch.testing.assert_close(uncertainty.maps[Kind.ALEATORIC], expected)
    assert method.estimator.source.sample_count == len(stacked)
    assert method.estimator.pass_count == 3


def test_the_labels_stay_the_segmenter_s(batch):
    networks = [network(seed) for seed in (0, 1, 2)]
    prediction = METHOD.build(CONFIG, networks[0], networks[1:]).predict(batch)
    labels = networks[0].segment(batch).labels()
    assert torch.equal(prediction.segmentation.labels(), labels)
    expected = 1 - prediction.probability().gather(1, labels[:, None])[:, 0]
    torch.testing.assert_close(prediction.uncertainty.maps[Kind.ERROR], expected)
    assert not torch.equal(prediction.probability().argmax(dim=1), labels)


def test_the_case_score_is_one_minus_the_dice_between_members(batch):
    networks = [network(seed) for seed in (0, 1)]
    score = METHOD.build(CONFIG, networks[0], networks[1:]).predict(batch).uncertainty.scores[Kind.ERROR]
    for row in range(2):
        a, b = (n.segment(batch).labels()[row] for n in networks)
        dice = [2 * ((a == c) & (b == c)).sum() / ((a == c).sum() + (b == c).sum()) for c in (1, 2)]
        assert float(score[row]) == pytest.approx(1 - float(torch.stack(dice).mean()), abs=1e-5)


def test_nobody_is_counted_twice(batch):
    segmenter, copy, other, again = network(0), network(0), network(1), network(1)
    plain = METHOD.build(CONFIG, segmenter, [other])
    crowded = METHOD.build(CONFIG, segmenter, [copy, other, again])
    assert crowded.estimator.source.sample_count == 2
    assert torch.equal(plain.predict(batch).probability(), crowded.predict(batch).probability())
    # The segmenter among the members counts even where it would not by itself, and its pass is shared.
    named = METHOD.build(DeepEnsembleConfig(with_segmenter=False), segmenter, [copy, other])
    assert torch.equal(named.predict(batch).probability(), plain.predict(batch).probability())
    assert named.estimator.pass_count == 2
    assert len(crowded.networks) == 3  # all are kept with the method, so that loading gives the same


@pytest.mark.parametrize("networks", [[0], [0, 0]])
def test_one_network_is_no_ensemble(networks):
    with pytest.raises(ConfigError, match="1 distinct member"):
        METHOD.build(CONFIG, network(0), [network(seed) for seed in networks])
    with pytest.raises(ConfigError, match="--members"):
        METHOD.fit(CONFIG, network(0), [], [], FitContext(device="cpu"))


def test_other_divisors_are_padded_and_cut_off():
    member = network(1, divisor=4)
    member = FrozenSegmenter(member.module, replace(member.spec, window=(8, 8)))
    image = torch.randn(1, 1, 6, 7, generator=torch.Generator().manual_seed(2))
    found = padded_probability(member, Batch(image))
    padded = torch.zeros(1, 1, 8, 8)
    padded[:, :, :6, :7] = image
    torch.testing.assert_close(found, torch.softmax(member.module(padded), 1)[:, :, :6, :7].detach())


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"classes": 2}, r"Member 2 \(network 5\): classes is"),
        ({"channels": 2}, "channels is 2, expected the segmenter's, 1"),
        ({"preprocessing": Preprocessing(normalisation="none")}, "preprocessing"),
    ],
)
def test_members_of_another_task_are_named(shape, message):
    with pytest.raises(ConfigError, match=message):
        METHOD.build(CONFIG, network(0), [network(1), network(5, **shape)])


def test_another_link_is_named():
    with pytest.raises(ConfigError, match="link is sigmoid"):
        METHOD.build(CONFIG, network(0, classes=2), [network(1, classes=2, sigmoid=True)])


def test_a_bare_module_is_refused():
    with pytest.raises(InputError, match="Member 1 is a Conv2d"):
        METHOD.build(CONFIG, network(0), [nn.Conv2d(1, 1, 1)])


def test_fit_says_how_many_there_are():
    lines: list[str] = []
    context = FitContext(device="cpu", say=lines.append, networks=(network(1), network(2)))
    method = METHOD.fit(CONFIG, network(0), [], [], context)
    assert lines == ["3 distinct members"]
    assert method.networks == context.networks
