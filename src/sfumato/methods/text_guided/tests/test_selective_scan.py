"""The scan against its formula in plain loops, worked examples, its limits and finite differences."""

import math

import pytest
import torch
from torch.nn import functional as F

from sfumato.methods.text_guided import selective_scan as module
from sfumato.methods.text_guided.selective_scan import selective_scan


def loop(x, delta, a, b, c, d):
    """Channel by channel, state by state, token by token."""
    batch, length, channels = x.shape
    rows = []
    for i in range(batch):
        columns = []
        for k in range(channels):
            h = [torch.zeros((), dtype=x.dtype) for _ in range(a.shape[1])]
            column = []
            for t in range(length):
                y = d[k] * x[i, t, k]
                for n in range(a.shape[1]):
                    h[n] = (
                        torch.exp(delta[i, t, k] * a[k, n]) * h[n] + delta[i, t, k] * b[i, t, n] * x[i, t, k]
                    )
                    y = y + c[i, t, n] * h[n]
                column.append(y)
            columns.append(torch.stack(column))
        rows.append(torch.stack(columns, dim=1))
    return torch.stack(rows)


def token_loop(x, delta, a, b, c, d):
    """Token by token, in the inputs' own precision."""
    h, outputs = torch.zeros(len(x), *a.shape, dtype=x.dtype), []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        h = torch.exp(step * a) * h + step * b[:, t, None] * x[:, t, :, None]
        outputs.append((h * c[:, t, None]).sum(-1) + d * x[:, t])
    return torch.stack(outputs, dim=1)


def inputs(length, batch=2, channels=3, state=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    delta = F.softplus(normal(batch, length, channels) - 1)
    a = -torch.exp(normal(channels, state))
    return (
        normal(batch, length, channels),
        delta,
        a,
        normal(batch, length, state),
        normal(batch, length, state),
        normal(channels),
    )


def gradients(function, given):
    given = [v.clone().requires_grad_() for v in given]
    output = function(*given)
    weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).reshape(output.shape).cos()
    return torch.autograd.grad((output * weight).sum(), given)


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 24])
def test_it_is_the_formula(length):
    given = inputs(length)
    torch.testing.assert_close(selective_scan(*given), loop(*given), rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(selective_scan, given), gradients(loop, given), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("length", [64, 257, 1024])
def test_long_sequences_in_float32(length):
    given = inputs(length, dtype=torch.float32, state=16)
    double = [v.double() for v in given]
    torch.testing.assert_close(selective_scan(*given).double(), token_loop(*double), rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(gradients(selective_scan, given), gradients(token_loop, double), strict=True):
        assert (ours - theirs).abs().max() < 1e-4 * max(1, theirs.abs().max())


@pytest.mark.parametrize("chunk", [1, 3, 5, 64])
def test_the_chunk_does_not_matter(monkeypatch, chunk):
    given = inputs(17)
    expected, expected_gradients = selective_scan(*given), gradients(selective_scan, given)
    monkeypatch.setattr(module, "CHUNK", chunk)
    torch.testing.assert_close(selective_scan(*given), expected, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(gradients(selective_scan, given), expected_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_finite_differences():
    given = [v.requires_grad_() for v in inputs(10, channels=2, state=2)]
    assert torch.autograd.gradcheck(selective_scan, given)


def test_the_worked_example_of_two_channels_and_two_states():
    x = torch.tensor([[1, -1, 0.5, 2], [0, 1, 1, -2]]).t()[None]
    delta = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1]]).t()[None]
    b = torch.tensor([[1.0, 0, 1, 1], [0.5, 1, -1, 0]]).t()[None]
    c = torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 1]]).t()[None]
    a = torch.tensor([[-1.0, -2], [-1, -2]])
    y = selective_scan(x, delta, a, b, c, torch.tensor([1, 0.5]))[0].t()
    expected = torch.tensor([[1.1, -1.0846, 0.7107, 2.8328], [0, 1, 1.5, -2.7583]])
    torch.testing.assert_close(y, expected, rtol=0, atol=6e-5)


def test_a_token_changes_nothing_before_it():
    given = inputs(20)
    before = selective_scan(*given)
    for i in (0, 1, 3, 4):
        changed = [v.clone() for v in given]
        changed[i][:, 11] += 1
        after = selective_scan(*changed)
        assert torch.equal(after[:, :11], before[:, :11])
        assert not torch.allclose(after[:, 11], before[:, 11])


def test_without_decay_the_state_is_a_running_sum():
    x, delta, a, b, c, d = inputs(30)
    state = torch.cumsum((delta * x)[..., None] * b[:, :, None], dim=1)
    expected = (state * c[:, :, None]).sum(-1) + d * x
    torch.testing.assert_close(selective_scan(x, delta, torch.zeros_like(a), b, c, d), expected)


def test_no_step_leaves_what_passes_by_and_a_long_step_forgets():
    x, delta, a, b, c, d = inputs(12)
    torch.testing.assert_close(selective_scan(x, torch.zeros_like(delta), a, b, c, d), d * x)
    long = torch.full_like(delta, 1e4)
    expected = long * x * (b * c).sum(-1, keepdim=True) + d * x
    torch.testing.assert_close(selective_scan(x, long, a, b, c, d), expected)


def test_it_is_linear_in_x():
    x, *rest = inputs(15)
    other = inputs(15, seed=1)[0]
    mixed = selective_scan(2 * x - 3 * other, *rest)
    torch.testing.assert_close(mixed, 2 * selective_scan(x, *rest) - 3 * selective_scan(other, *rest))


def test_rows_do_not_see_each_other():
    given = inputs(15, batch=4)
    together, order = selective_scan(*given), torch.tensor([2, 0, 3, 1])
    shuffled = [v[order] if v.ndim == 3 else v for v in given]
    torch.testing.assert_close(selective_scan(*shuffled), together[order], rtol=1e-13, atol=1e-13)
    alone = [v[:1] if v.ndim == 3 else v for v in given]
    torch.testing.assert_close(selective_scan(*alone), together[:1], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("size", [10.0, 88.7, 1e3])
def test_long_exponents_overflow_nowhere(size):
    x, delta, a, b, c, d = inputs(300, dtype=torch.float32)
    given = (x, torch.full_like(delta, size), -torch.ones_like(a), b, c, d)
    assert selective_scan(*given).isfinite().all()
    assert all(g.isfinite().all() for g in gradients(selective_scan, given))


def test_autocast_rounds_nothing():
    given = inputs(24, dtype=torch.float32)
    plain, plain_gradients = selective_scan(*given), gradients(selective_scan, given)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, cast_gradients = selective_scan(*given), gradients(selective_scan, given)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
    assert all(torch.equal(u, v) for u, v in zip(cast_gradients, plain_gradients, strict=True))


def test_half_precision_comes_out_wide_and_its_gradient_goes_back_narrow():
    given = [v.bfloat16().requires_grad_() for v in inputs(9)]
    output = selective_scan(*given)
    wide = [v.detach().float() for v in given]
    assert torch.equal(output, selective_scan(*wide))
    output.sum().backward()
    assert all(v.grad is not None and v.grad.dtype == torch.bfloat16 for v in given)


def test_a_geometric_series():
    """One state, constant input: h[t] = (1 - q^t) / (1 - q) for a step of 1."""
    ones, q = torch.ones(1, 40, 1, dtype=torch.float64), math.exp(-0.3)
    y = selective_scan(ones, ones, torch.full((1, 1), -0.3), ones, ones, torch.zeros(1))
    expected = [(1 - q**t) / (1 - q) for t in range(1, 41)]
    assert y.flatten().tolist() == pytest.approx(expected, rel=1e-6)
