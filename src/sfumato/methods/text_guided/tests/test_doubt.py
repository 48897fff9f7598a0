"""What a text-guided segmentation says about its own doubt."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError
from sfumato.interfaces import FitContext
from sfumato.methods.text_guided import METHOD, TextDoubtConfig
from sfumato.methods.text_guided.doubt import TextDoubt
from sfumato.methods.text_guided.segmenter import make_segmenter
from sfumato.types import Batch, Kind, Link, Segmentation, TextPrompt

SAID = TextPrompt(("disc on the left", "a disc"))
OTHERS = ("an object", "disc on the right")


@pytest.fixture
def segmenter(tiny_network, tiny_encoder):
    network = tiny_network(cross_scale=6.0)  # so that the words of an untrained network matter
    return make_segmenter(network, tiny_encoder(), ("background", "disc"), side=64)


@pytest.fixture
def batch() -> Batch:
    return Batch(torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(3)), SAID)


def test_the_maps_are_those_of_loops(segmenter, batch):
    method = METHOD.build(TextDoubtConfig(OTHERS), segmenter)
    method.estimator.temperature.fill_(0.7)
    found = method.predict(batch).uncertainty.maps
    answers = [
        segmenter.segment(replace(batch, prompt=prompt)).logits[:, 0].double().numpy() / 0.7
        for prompt in (SAID, None, *(TextPrompt((s, s)) for s in OTHERS))
    ]
    for place in np.ndindex(2, 24, 20):
        p, *q = (1 / (1 + math.exp(-answer[place])) for answer in answers)
        entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
        assert float(found[Kind.PREDICTIVE][place]) == pytest.approx(entropy, abs=1e-5)
        assert float(found[Kind.PROMPT][place]) == pytest.approx(sum(abs(p - v) for v in q) / 3, abs=1e-5)
        assert float(found[Kind.ERROR][place]) == pytest.approx(min(p, 1 - p), abs=1e-5)  # nothing is fitted


def test_nothing_hangs_on_words_that_are_not_there(segmenter, batch):
    method = METHOD.build(TextDoubtConfig(), segmenter)
    assert float(method.predict(batch).uncertainty.maps[Kind.PROMPT].max()) > 1e-3
    silent = method.predict(replace(batch, prompt=None)).uncertainty
    assert float(silent.maps[Kind.PROMPT].max()) == 0
    assert silent.scores[Kind.PROMPT].tolist() == [0.0, 0.0]


def test_it_runs_as_often_as_it_says(segmenter, batch, monkeypatch):
    method, asked = METHOD.build(TextDoubtConfig(OTHERS), segmenter), []
    inner = segmenter.segment
    monkeypatch.setattr(segmenter, "segment", lambda b: asked.append(b.prompt) or inner(b))
    method.predict(batch)
    assert isinstance(method.estimator, TextDoubt)
    assert len(asked) == method.estimator.pass_count == 4
    assert asked == [SAID, None, *(TextPrompt((s, s)) for s in OTHERS)]


def drawn(segmenter, count: int, temperature: float, seed: int) -> list[Batch]:
    """Cases whose labels are drawn from the network's own probability at a temperature."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for _ in range(count):
        case = Batch(3 * torch.randn(1, 3, 64, 64, generator=generator), TextPrompt(("a disc",)))
        chance = torch.sigmoid(segmenter.segment(case).logits[:, 0] / temperature)
        cases.append(replace(case, label=torch.bernoulli(chance, generator=generator).long()))
    return cases


def test_fitting_finds_the_temperature_and_the_chance_of_error(segmenter):
    with torch.no_grad():
        segmenter.module.network.head.weight.mul_(40)  # surer than an untrained network is
    wanted = 2.5
    fitting, calibration = drawn(segmenter, 6, wanted, 1), drawn(segmenter, 6, wanted, 2)
    method = METHOD.fit(METHOD.tiny, segmenter, fitting, calibration, FitContext(device="cpu"))
    assert float(method.estimator.temperature) == pytest.approx(wanted, rel=0.05)
    said, wrong = [], []
    for case in drawn(segmenter, 6, wanted, 3):
        prediction = method.predict(replace(case, label=None))
        said.append(prediction.uncertainty.maps[Kind.ERROR].flatten())
        wrong.append((prediction.segmentation.labels() != case.label).flatten())
    chance, happened = torch.cat(said), torch.cat(wrong).float()
    for part in chance.argsort().chunk(5):
        assert float(chance[part].mean()) == pytest.approx(float(happened[part].mean()), abs=0.03)


def test_responses_must_be_there(segmenter, batch):
    with pytest.raises(InputError, match="call it first"):
        METHOD.build(TextDoubtConfig(), segmenter).estimator.estimate(
            batch, Segmentation(torch.zeros(2, 1, 24, 20), Link.SIGMOID)
        )


def test_a_sentence_to_compare_with_says_something():
    assert TextDoubtConfig(["a disc"]).sentences == ("a disc",)  # type: ignore[arg-type]  # JSON gives lists
    with pytest.raises(ConfigError, match="expected some that say something"):
        TextDoubtConfig(("unknown",))
