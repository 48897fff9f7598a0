"""The mixer against its description in loops, its start, what a token can reach, and padding."""

import math

import pytest
import torch
from torch.nn import functional as F

from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.ssmix import LinearMixer, StateSpaceMixer, _filter

LENGTH, TEXT_WIDTH, WIDTH, TOKENS = 7, 6, 8, 5
SMALL = {"text_length": LENGTH, "state": 3}


def make(config=None, kind=StateSpaceMixer, seed=0):
    torch.manual_seed(seed)
    return kind(config or TextGuidedConfig(**SMALL), TEXT_WIDTH, WIDTH, TOKENS)


def sentences(rows=2, length=LENGTH, seed=1):
    return torch.randn(rows, length, TEXT_WIDTH, generator=torch.Generator().manual_seed(seed))


def twin(mixer, text, bias_times, product):
    """One sentence, numbers one by one, in float64."""
    p = {name: value.double() for name, value in mixer.state_dict().items()}
    length, half = len(text), p["skip"].numel()
    u = [F.leaky_relu(p["project.weight"] @ row + p["project.bias"], 0.01) for row in text.double()]
    v = torch.stack([p["expand.weight"] @ row for row in u])

    def filtered(x, kernel):
        out = torch.zeros(length, half, dtype=torch.float64)
        for t in range(length):
            for k in range(half):
                inside = [(j, t - 1 + j) for j in range(4) if 0 <= t - 1 + j < length]
                out[t, k] = math.tanh(sum(float(kernel[k, 0, j] * x[s, k]) for j, s in inside))
        return out

    x = filtered(v[:, :half], p["content_filter.weight"])
    z = filtered(v[:, half:], p["gate_filter.weight"])
    rank, state = p["step.weight"].shape[1], p["log_decay"].shape[1]
    y = torch.zeros(length, half, dtype=torch.float64)
    h = torch.zeros(half, state, dtype=torch.float64)
    for t in range(length):
        low, b, c = (p["parameters_of_scan.weight"] @ x[t]).split([rank, state, state])
        for k in range(half):
            raw = float(p["step.weight"][k] @ low + bias_times * p["step.bias"][k])
            delta = math.log1p(math.exp(raw))
            for n in range(state):
                a = -math.exp(p["log_decay"][k, n])
                h[k, n] = math.exp(delta * a) * h[k, n] + delta * b[n] * x[t, k]
            y[t, k] = c @ h[k] + p["skip"][k] * x[t, k]
    merged = y * z if product else torch.cat([y, z], dim=1)
    return p["pool.weight"] @ merged


@pytest.mark.parametrize(
    ("config", "bias_times", "product"),
    [
        (TextGuidedConfig(**SMALL), 1, False),
        (TextGuidedConfig.released(**SMALL), 2, False),
        (TextGuidedConfig(merge="product", expansion=2, **SMALL), 1, True),
        (TextGuidedConfig.paper(**SMALL), 1, True),
    ],
    ids=["fixed", "released", "product", "paper"],
)
def test_it_is_its_description(config, bias_times, product):
    mixer, text = make(config), sentences()
    with torch.no_grad():
        mixer.step.bias += 3  # else the recurrence is next to nothing
        mixed = mixer(text)
    expected = torch.stack([twin(mixer, row, bias_times, product) for row in text])
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("width", "tokens", "count"), [(768, 24, 649536), (384, 12, 168096), (192, 9, 44952)]
)
def test_it_has_the_parameters_of_the_authors_mixer(width, tokens, count):
    with torch.device("meta"):
        mixer = StateSpaceMixer(TextGuidedConfig.released(), 768, width, tokens)
    projection = 768 * width + width
    assert sum(p.numel() for p in mixer.parameters()) == count + projection


def test_the_filter_is_that_of_the_worked_example():
    kernel = torch.nn.Conv1d(1, 1, 4, bias=False)
    with torch.no_grad():
        kernel.weight.copy_(1e-6 * torch.tensor([[[1.0, 10.0, 100.0, 1000.0]]]))
    seen = _filter(kernel, torch.arange(1.0, 7.0).reshape(1, 6, 1)).atanh().flatten() * 1e6
    torch.testing.assert_close(seen, torch.tensor([3210.0, 4321, 5432, 6543, 654, 65]), rtol=1e-4, atol=0)


def test_a_token_reaches_two_back_and_one_ahead_through_the_filter():
    mixer, x = make(), torch.randn(1, LENGTH, WIDTH // 2, generator=torch.Generator().manual_seed(2))
    changed = x.clone()
    changed[:, 3] += 1
    moved = (_filter(mixer.content_filter, x) != _filter(mixer.content_filter, changed)).any(dim=2)
    assert moved[0].nonzero().flatten().tolist() == [1, 2, 3, 4]


def test_it_starts_with_the_steps_and_decays_of_mamba():
    mixers = [make(seed=seed) for seed in range(40)]
    steps = F.softplus(torch.cat([m.step.bias for m in mixers]).detach())
    assert steps.min() >= 1e-3 * (1 - 1e-4)
    assert steps.max() <= 0.1 * (1 + 1e-4)
    assert steps.log().mean().item() == pytest.approx(math.log(1e-2), abs=0.4)
    doubled = F.softplus(2 * torch.cat([m.step.bias for m in mixers]).detach())
    assert 9e-7 < doubled.min() < doubled.max() < 1.15e-2
    torch.testing.assert_close(mixers[0].log_decay.exp(), torch.arange(1.0, 4.0).repeat(WIDTH // 2, 1))
    assert mixers[0].step.weight.abs().max() <= 1  # the inverse root of one low dimension


def test_the_released_step_counts_its_bias_twice():
    fixed, released = make(), make(TextGuidedConfig.released(**SMALL))
    released.load_state_dict(fixed.state_dict())
    content = torch.randn(2, LENGTH, WIDTH // 2).tanh()
    once, twice = fixed.scan_parameters(content)[0], released.scan_parameters(content)[0]
    inverse = torch.expm1(twice).log() - torch.expm1(once).log()
    torch.testing.assert_close(inverse, fixed.step.bias.expand_as(inverse), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [StateSpaceMixer, LinearMixer])
def test_padding_takes_no_part(kind):
    mixer, text = make(kind=kind), sentences()
    keep = torch.arange(LENGTH) < torch.tensor([[4], [7]])
    mixed = mixer(text, keep)
    noise = text.clone()
    noise[0, 4:] = 1e3
    assert torch.equal(mixer(noise, keep), mixed)
    assert not torch.allclose(mixer(text)[0], mixed[0])
    assert torch.equal(mixer(text)[1], mixed[1])
    # A mixer built for four tokens, with the same weights, sees the same sentence.
    short = make(TextGuidedConfig(**(SMALL | {"text_length": 4})), kind)
    state = mixer.state_dict()
    state["pool.weight"] = state["pool.weight"][:, :4]
    short.load_state_dict(state)
    torch.testing.assert_close(short(text[:1, :4]), mixed[:1])


@pytest.mark.parametrize("kind", [StateSpaceMixer, LinearMixer])
def test_rows_do_not_see_each_other_and_all_weights_learn(kind):
    mixer, text = make(kind=kind), sentences(rows=3)
    together = mixer(text)
    torch.testing.assert_close(together[1:2], mixer(text[1:2]))
    together.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in mixer.parameters())


def test_the_linear_mixer_is_linear_but_for_its_first_activation():
    mixer, text = make(kind=LinearMixer), sentences()
    first = F.leaky_relu(mixer.project(text), 0.01)
    expected = torch.einsum("sl,blc,dc->bsd", mixer.pool.weight, first, mixer.mix.weight)
    torch.testing.assert_close(mixer(text), expected)


def test_autocast_leaves_the_scan_in_single_precision():
    mixer = make()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        delta, _, _ = mixer.scan_parameters(torch.randn(2, LENGTH, WIDTH // 2).bfloat16())
        mixed = mixer(sentences())
    assert delta.dtype == torch.float32
    torch.testing.assert_close(mixed.float(), mixer(sentences()), rtol=0.05, atol=0.02)
