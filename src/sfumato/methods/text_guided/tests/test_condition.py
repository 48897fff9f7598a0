"""Sentences of a batch on their way into the network."""

from __future__ import annotations

import pytest
import torch

from sfumato.errors import InputError
from sfumato.methods.text_guided.condition import SentenceCondition
from sfumato.methods.text_guided.segmenter import make_segmenter
from sfumato.types import Batch, SpatialPrompt, TextPrompt

SENTENCES = ("disc on the left", "unknown", "a disc")


@pytest.fixture
def segmenter(tiny_network, tiny_encoder):
    return make_segmenter(tiny_network(), tiny_encoder(), ("background", "disc"), side=64)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_the_network_is_told_what_the_encoder_says(segmenter, image):
    encoder = segmenter.condition.encoder
    text = encoder.encode(SENTENCES)
    with torch.no_grad():
        expected = segmenter.module.network(image, text.states, text.keep, text.present)
    assert torch.equal(segmenter.segment(Batch(image, TextPrompt(SENTENCES))).logits, expected)
    assert segmenter.condition.key == encoder.key


def test_a_missing_sentence_is_no_sentence(segmenter, image):
    told = segmenter.segment(Batch(image, TextPrompt(SENTENCES))).logits
    without = segmenter.segment(Batch(image)).logits
    torch.testing.assert_close(told[1], without[1], atol=1e-6, rtol=0)
    assert float((told[0] - without[0]).abs().max()) > 1e-4
    every = segmenter.segment(Batch(image, TextPrompt(("", "nan", "none")))).logits
    assert torch.equal(every, without)


def test_sentences_are_encoded_once(segmenter, image):
    for _ in range(3):
        segmenter.segment(Batch(image, TextPrompt(SENTENCES)))
    assert segmenter.condition.encoder.encoded == 3  # of which one stands for all that are missing


def test_other_prompts_are_refused(tiny_encoder, image):
    condition = SentenceCondition(tiny_encoder())
    with pytest.raises(InputError, match="A SpatialPrompt, expected a TextPrompt"):
        condition(Batch(image, SpatialPrompt.of_points([[(1, 1, 1)]] * 3)))
    with pytest.raises(InputError, match="2 sentences for 3 images"):
        condition(Batch(image, TextPrompt(SENTENCES[:2])))


def test_other_taps_keep_the_condition(segmenter, image):
    tapped = segmenter.with_taps(["network.head:input"])
    batch = Batch(image, TextPrompt(SENTENCES))
    assert tapped.condition is segmenter.condition
    assert torch.equal(tapped.segment(batch).logits, segmenter.segment(batch).logits)
    assert not torch.equal(
        tapped.segment(batch).features["network.head:input"],
        tapped.segment(Batch(image)).features["network.head:input"],
    )
