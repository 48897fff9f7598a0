"""The fusion block against its formulas in loops, its identities, rows without text, and positions."""

import math

import pytest
import torch
from torch.nn import functional as F

from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.modab import ModalityDecodingAttention, SelfAttention, position_code

PLACES, WIDTH, LENGTH, TEXT_WIDTH, TOKENS = 9, 16, 6, 10, 4
SMALL = {"text_length": LENGTH, "state": 3}


def make(seed=0, **settings):
    torch.manual_seed(seed)
    config = settings.pop("config", None) or TextGuidedConfig(**(SMALL | settings))
    block = ModalityDecodingAttention(config, TEXT_WIDTH, WIDTH, TOKENS).eval()
    with torch.no_grad():
        for p in block.parameters():  # norms and biases start at 1 and 0, which would hide mistakes
            p += 0.1 * torch.randn(p.shape)
    return block


def inputs(rows=3, seed=1):
    generator = torch.Generator().manual_seed(seed)
    visual = torch.randn(rows, PLACES, WIDTH, generator=generator)
    return visual, torch.randn(rows, LENGTH, TEXT_WIDTH, generator=generator)


def norm(layer, row):
    """Over one vector."""
    centred = row - row.sum() / len(row)
    spread = math.sqrt(float(centred @ centred) / len(row) + 1e-5)
    return centred / spread * layer.weight.double() + layer.bias.double()


def attend(queries, keys, values):
    """One head, query by query."""
    rows = []
    for q in queries:
        weights = [math.exp(float(q @ k) / math.sqrt(len(q))) for k in keys]
        rows.append(sum(w / sum(weights) * v for w, v in zip(weights, values, strict=True)))
    return torch.stack(rows)


def heads_of(x):
    return x.reshape(len(x), 4, -1).unbind(1)


def self_attention_twin(layer, x):
    weight, bias = layer.project.weight.double(), layer.project.bias.double()
    query, key, value = (x @ weight.t() + bias).chunk(3, dim=1)
    found = []
    for q, k, v in zip(heads_of(query), heads_of(key), heads_of(value), strict=True):
        q = torch.stack([norm(layer.query_norm, row) for row in q])
        k = torch.stack([norm(layer.key_norm, row) for row in k])
        found.append(attend(q, k, v))
    return torch.cat(found, dim=1) @ layer.output.weight.double().t() + layer.output.bias.double()


def cross_attention_twin(layer, query, key, value):
    weights, biases = layer.in_proj_weight.double().chunk(3), layer.in_proj_bias.double().chunk(3)
    q, k, v = (x @ w.t() + b for x, w, b in zip((query, key, value), weights, biases, strict=True))
    found = [attend(*per_head) for per_head in zip(heads_of(q), heads_of(k), heads_of(v), strict=True)]
    return torch.cat(found, dim=1) @ layer.out_proj.weight.double().t() + layer.out_proj.bias.double()


def code_twin(length, width):
    code = torch.zeros(length, width, dtype=torch.float64)
    for t in range(length):
        for i in range(width // 2):
            angle = t / 10000 ** (2 * i / width)
            code[t, 2 * i], code[t, 2 * i + 1] = math.sin(angle), math.cos(angle)
    return code


def rows_of(layer, x):
    return torch.stack([norm(layer, row) for row in x])


def test_positions_are_the_formula():
    torch.testing.assert_close(position_code(50, 12).double(), code_twin(50, 12), rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("figure", [False, True])
def test_it_is_its_formulas(figure):
    block = make(config=TextGuidedConfig.paper(**SMALL)) if figure else make()
    visual, text = inputs(rows=1)
    fused, _ = block(visual, text)
    v, code = visual[0].double(), code_twin(PLACES, WIDTH)
    s = F.gelu(block.mixer(text)[0]).double()
    queries = rows_of(block.before_self, v) + (0 if figure else code)
    v1 = v + rows_of(block.after_self, self_attention_twin(block.self_attention, queries))
    queries = rows_of(block.before_cross, v1) + code
    b = cross_attention_twin(block.cross_attention, queries, s + code_twin(TOKENS, WIDTH), s)
    v2 = v1 + block.cross_scale.double() * rows_of(block.after_cross, b)
    torch.testing.assert_close(fused[0].double(), v2, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_addition_puts_the_mean_of_the_text_everywhere():
    block, (visual, text) = make(fusion="addition"), inputs()
    fused, attention = block(visual, text, return_attention=True)
    added = block.after_cross(F.gelu(block.mixer(text)).mean(dim=1))
    expected = block(visual, None)[0] + block.cross_scale * added[:, None]
    torch.testing.assert_close(fused, expected)
    assert attention is None


@torch.no_grad()
def test_a_scale_of_zero_makes_the_text_irrelevant():
    block, (visual, text) = make(), inputs()
    assert not torch.allclose(block(visual, text)[0], block(visual, -text)[0])
    block.cross_scale.zero_()
    assert torch.equal(block(visual, text)[0], block(visual, None)[0])


@torch.no_grad()
def test_last_norms_of_zero_make_the_block_an_identity():
    block, (visual, text) = make(), inputs()
    for layer in (block.after_self, block.after_cross):
        layer.weight.zero_()
        layer.bias.zero_()
    assert torch.equal(block(visual, text)[0], visual)


@torch.no_grad()
@pytest.mark.parametrize("profile", ["fixed", "released"])
def test_rows_without_text_come_out_as_if_none_had_any(profile):
    block, (visual, text) = make(profile=profile, dropout=0.0), inputs()
    fused, attention = block(visual, text, present=torch.tensor([True, False, True]), return_attention=True)
    assert torch.equal(fused[1], block(visual, None)[0][1])
    assert torch.equal(fused[[0, 2]], block(visual, text, return_attention=True)[0][[0, 2]])
    assert torch.equal(attention[1], torch.zeros(PLACES, TOKENS))
    assert torch.equal(block(visual, None)[0], visual) == (profile == "released")


@torch.no_grad()
def test_rows_do_not_see_each_other():
    block, (visual, text), order = make(), inputs(), torch.tensor([2, 0, 1])
    fused = block(visual, text)[0]
    torch.testing.assert_close(block(visual[order], text[order])[0], fused[order])
    torch.testing.assert_close(block(visual[:1], text[:1])[0], fused[:1])
    assert not torch.allclose(block(visual, text[order])[0], fused)


@torch.no_grad()
def test_attention_is_a_distribution_over_mixed_tokens_and_asking_changes_nothing():
    block, (visual, text) = make(), inputs()
    fused, attention = block(visual, text, return_attention=True)
    torch.testing.assert_close(attention.sum(dim=2), torch.ones(3, PLACES))
    assert attention.min() >= 0
    torch.testing.assert_close(fused, block(visual, text)[0])


@torch.no_grad()
def test_places_are_told_apart_by_their_positions():
    torch.manual_seed(0)
    layer, x, order = SelfAttention(WIDTH, 0.1).eval(), inputs()[0], torch.randperm(PLACES)
    code = position_code(PLACES, WIDTH)
    torch.testing.assert_close(layer(x[:, order]), layer(x)[:, order])
    assert not torch.allclose(layer(x[:, order] + code), layer(x + code)[:, order])


@torch.no_grad()
def test_dropout_acts_while_training_and_in_the_released_form_always():
    visual, text = inputs()
    fixed, released = make(dropout=0.5), make(profile="released", dropout=0.5)
    assert torch.equal(fixed(visual, text)[0], fixed(visual, text)[0])
    assert not torch.equal(released(visual, text)[0], released(visual, text)[0])
    fixed.train()
    assert not torch.equal(fixed(visual, text)[0], fixed(visual, text)[0])


@pytest.mark.parametrize(
    ("width", "tokens", "count"), [(768, 24, 5971777), (384, 12, 1649569), (192, 9, 490777)]
)
def test_it_has_the_parameters_of_the_authors_block(width, tokens, count):
    with torch.device("meta"):
        block = ModalityDecodingAttention(TextGuidedConfig.released(), 768, width, tokens)
    assert sum(p.numel() for p in block.parameters()) == count
