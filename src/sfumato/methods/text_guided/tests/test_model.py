"""The whole network: any size, missing text, padding, bad input, export, and that text is used."""

import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, InputError
from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.losses import SeuLoss
from sfumato.methods.text_guided.model import TextGuidedNetwork


def inputs(rows=2, side=(32, 32), length=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(rows, 3, *side, generator=generator)
    return image, torch.randn(rows, length, 12, generator=generator)


@torch.no_grad()
@pytest.mark.parametrize("side", [(32, 32), (64, 40), (50, 37), (33, 95)])
@pytest.mark.parametrize("classes", [1, 4])
def test_any_size_comes_out_as_it_went_in(tiny_network, side, classes):
    network, (image, text) = tiny_network(classes=classes), inputs(side=side)
    guided = network(image, text, return_attention=True)
    assert guided.logits.shape == (2, classes, *side)
    strides = (32, 16, 8)
    assert [a.shape[2:] for a in guided.attention] == [
        tuple(-(-n // stride) for n in side) for stride in strides
    ]
    assert [a.shape[1] for a in guided.attention] == [5, 4, 3]
    for a in guided.attention:
        torch.testing.assert_close(a.sum(dim=1), torch.ones_like(a[:, 0]))
    torch.testing.assert_close(network(image, text), guided.logits)


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"profile": "released", "dropout": 0.0},
        {"merge": "product", "expansion": 2},
        {"mixer": "linear"},
        {"fusion": "addition"},
        {"norm": "group", "mixed_tokens": (5, 4, 3, 2)},
        {"mask_padding": False, "symmetric_pad": False},
    ],
    ids=str,
)
def test_rows_without_text_come_out_as_if_none_had_any(tiny_network, settings):
    network, (image, text) = tiny_network(**settings), inputs(rows=3)
    text[1] = float("nan")
    logits = network(image, text, present=torch.tensor([True, False, True]))
    torch.testing.assert_close(logits[1], network(image)[1])
    torch.testing.assert_close(logits[[0, 2]], network(image[[0, 2]], text[[0, 2]]))
    assert not torch.allclose(logits[0], network(image)[0])


def test_what_is_missing_spoils_no_gradient(tiny_network):
    network, (image, text) = tiny_network(), inputs(rows=3)
    text[1], text[2, 4:] = float("nan"), float("inf")
    keep = torch.arange(6) < torch.tensor([[6], [6], [4]])
    network(image, text, keep, torch.tensor([True, False, True])).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@torch.no_grad()
def test_a_short_sentence_is_one_with_padding(tiny_network):
    network, (image, text) = tiny_network(), inputs()
    keep = (torch.arange(6) < 4).expand(2, 6)
    padded = network(image, text, keep)
    torch.testing.assert_close(network(image, text[:, :4]), padded)
    text[:, 4:] = 100
    assert torch.equal(network(image, text, keep), padded)
    assert torch.equal(network(image, text, torch.zeros(2, 6, dtype=torch.bool)), network(image))


@torch.no_grad()
def test_without_fusion_the_text_is_left_out(tiny_network):
    network, (image, text) = tiny_network(fusion="none"), inputs()
    assert len(network.fusion) == 0
    assert torch.equal(network(image, text), network(image))


@torch.no_grad()
def test_rows_do_not_see_each_other(tiny_network):
    network, (image, text), order = tiny_network(), inputs(rows=4), torch.tensor([2, 0, 3, 1])
    logits = network(image, text)
    torch.testing.assert_close(network(image[order], text[order]), logits[order])
    torch.testing.assert_close(network(image[1:2], text[1:2]), logits[1:2])
    assert not torch.allclose(network(image, text[order]), logits)


@torch.no_grad()
def test_prediction_is_repeatable_but_in_the_released_form(tiny_network):
    image, text = inputs()
    fixed, released = tiny_network(dropout=0.5), tiny_network(profile="released", dropout=0.5)
    assert torch.equal(fixed(image, text), fixed(image, text))
    assert not torch.equal(released(image, text), released(image, text))


@torch.no_grad()
def test_training_takes_text_away_from_some_rows(tiny_network):
    network = tiny_network(text_dropout=0.4, dropout=0.0, norm="group").train()
    image, text = (x.expand(200, *x.shape[1:]) for x in inputs(rows=1))
    torch.manual_seed(0)
    logits, without = network(image, text), network(image)
    lost = (logits - without).abs().amax(dim=(1, 2, 3)) < 1e-6
    assert 50 < lost.sum() < 110  # five standard deviations around 80
    kept = tiny_network(text_dropout=0.4, dropout=0.0, norm="group")
    torch.testing.assert_close(kept(image[:1], text[:1]), logits[~lost][:1])


@torch.no_grad()
def test_autocast_moves_logits_by_rounding_alone(tiny_network):
    network, (image, text) = tiny_network(), inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = network(image, text)
    logits = network(image, text)
    assert (rounded.float() - logits).abs().max() < 0.05 * logits.abs().max()


def test_it_can_be_exported(tiny_network):
    network, (image, text) = tiny_network(), inputs()
    keep, present = torch.ones(2, 6, dtype=torch.bool), torch.tensor([True, False])
    exported = torch.export.export(network, (image, text, keep, present)).module()
    others = inputs(seed=2)
    torch.testing.assert_close(exported(*others, keep, ~present), network(*others, keep, ~present))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": torch.zeros(2, 7, 12)}, "Text of 7 tokens, expected at most 6"),
        ({"text": torch.zeros(1, 6, 12)}, "for 2 image"),
        ({"text": torch.zeros(2, 6, 13)}, "at most 6, 12"),
        ({"keep": torch.ones(2, 5, dtype=torch.bool)}, "keep of shape"),
        ({"present": torch.ones(3, dtype=torch.bool)}, "present of shape"),
    ],
)
def test_text_that_does_not_fit_is_told(tiny_network, change, words):
    image, text = inputs()
    with pytest.raises(InputError, match=words):
        tiny_network()(image, **({"text": text} | change))


def test_padded_states_are_the_language_models_where_they_take_part(tiny_network):
    image, text = inputs()
    with pytest.raises(InputError, match="exactly 6"):
        tiny_network(mask_padding=False)(image, text[:, :4])


def test_attention_that_is_not_there_is_told(tiny_network):
    image, text = inputs()
    for network, given in ((tiny_network(), None), (tiny_network(fusion="addition"), text)):
        with pytest.raises(ConfigError, match="Attention"):
            network(image, given, return_attention=True)


def test_an_encoder_that_does_not_fit_is_told():
    encoder = nn.Identity()
    for widths in ((8, 16, 32), (8, 8, 16, 30)):
        encoder.widths = widths
        with pytest.raises(ConfigError, match="multiples of 4"):
            TextGuidedNetwork(encoder, TextGuidedConfig())


def disks():
    """Four disks in every picture, the sentence that names one of them, and that one as the label."""
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    centres = [(8, 8), (8, 24), (24, 8), (24, 24)]
    label = torch.stack([((rows - r) ** 2 + (columns - c) ** 2 <= 25).long() for r, c in centres])
    image = label.sum(0).float().expand(4, 3, 32, 32)
    return image, torch.randn(4, 6, 12, generator=torch.Generator().manual_seed(3)), label


def dice(logits, label):
    found = logits[:, 0] > 0
    return float(2 * (found * label).sum() / (found.sum() + label.sum()))


@pytest.mark.parametrize("form", [{}, {"profile": "paper", "merge": "product", "expansion": 2}], ids=str)
def test_it_learns_to_segment_what_the_sentence_names(tiny_network, form):
    network = tiny_network(norm="group", text_dropout=0.0, dropout=0.0, **form).train()
    (image, text, label), loss = disks(), SeuLoss()
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.02)
    for _ in range(100):
        optimiser.zero_grad()
        loss(network(image, text), label)["total"].backward()
        optimiser.step()
    with torch.no_grad():
        network.eval()
        assert dice(network(image, text), label) > 0.95
        assert dice(network(image, text.roll(1, dims=0)), label) < 0.3


def test_standardised_states_do_not_depend_on_scale_and_offset_of_the_language_model(tiny_network):
    generator = torch.Generator().manual_seed(5)
    network = tiny_network(text_states="standardised").eval()
    width, length = network.text_width, network.config.text_length
    text = torch.randn(6, length, width, generator=generator)
    keep = torch.arange(length).expand(6, -1) < torch.tensor([[length], [3], [2], [length], [1], [4]])
    image = torch.randn(6, 3, 32, 32, generator=generator)

    def answer(states):
        network.standardise(states, keep)
        return network(image, text=states, keep=keep)

    with torch.no_grad():
        plain = answer(text)
        words = (text[keep] - network.text_mean) / network.text_scale
        torch.testing.assert_close(words.mean(0), torch.zeros(width), atol=1e-5, rtol=0)
        torch.testing.assert_close(words.std(0, correction=0), torch.ones(width))
        torch.testing.assert_close(answer(3 * text + 7), plain, atol=1e-4, rtol=1e-4)
        raw = tiny_network().eval()
        assert not torch.allclose(raw(image, text=3 * text + 7, keep=keep), raw(image, text=text, keep=keep))


def test_nothing_is_standardised_by_sentences_without_words(tiny_network):
    network = tiny_network(text_states="standardised")
    nothing = torch.zeros(2, 4, network.text_width)
    network.standardise(nothing, torch.zeros(2, 4, dtype=torch.bool))
    assert torch.equal(network.text_scale, torch.ones(network.text_width))
