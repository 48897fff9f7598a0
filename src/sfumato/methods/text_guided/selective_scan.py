"""The selective scan of Mamba (Gu and Dao, 2023, arXiv 2312.00752, section 3): a gated running sum over a sequence.

Per channel c and state n, with h before the first token being 0:

    h[t, c, n] = exp(delta[t, c] a[c, n]) h[t-1, c, n] + delta[t, c] b[t, n] x[t, c]
    y[t, c]    = sum over n of c[t, n] h[t, c, n] + d[c] x[t, c]

which is a zero-order hold for a and an Euler step for b. Everything but the recurrence itself is done for a few tokens
at once, and the recurrence is one fused operation per token. The gradient is written out and recomputes the states
from those kept at the start of every chunk. An associative scan takes ceil(log2(length)) passes over all states, which
on a processor costs several times as much; cumulative products, or their logarithms, need ratios that overflow.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 8
"""Tokens at a time: their states stay in the processor's cache, and one call per token still does a lot of work."""


def selective_scan(
    x: Float[Tensor, "batch length channels"],
    delta: Float[Tensor, "batch length channels"],
    a: Float[Tensor, "channels state"],
    b: Float[Tensor, "batch length state"],
    c: Float[Tensor, "batch length state"],
    d: Float[Tensor, "channels"],
) -> Float[Tensor, "batch length channels"]:
    """Run the recurrence from the first token to the last.

    Args:
        x: the sequence.
        delta: step sizes, 0 or more.
        a: decay rates, negative, so that no factor exceeds 1; a long step underflows to 0, which is its limit.
        b: how each token enters the states.
        c: how each token reads them.
        d: what passes by them.

    Returns:
        y in float32, or in float64 where an input is: half precision and a caller's autocast are kept out.

    Example:
        >>> def column(*values):
        ...     return torch.tensor(values).reshape(1, -1, 1)
        >>> one, half = column(1.0, 1.0, 1.0), column(0.5, 0.5, 0.5)
        >>> y = selective_scan(column(1.0, 2.0, 3.0), half, -torch.ones(1, 1), one, one, torch.ones(1))
        >>> [round(v, 4) for v in y.flatten().tolist()]
        [1.5, 3.3033, 5.2905]
    """
    inputs = (x, delta, a, b, c, d)
    wide = torch.float64 if any(v.dtype == torch.float64 for v in inputs) else torch.float32
    with torch.autocast(x.device.type, enabled=False):
        return _SelectiveScan.apply(*(v.to(wide) for v in inputs))


class _SelectiveScan(torch.autograd.Function):
    """Inside, tokens come first and channels last: a token's states are one block, and every product runs over
    channels that lie side by side in memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        x, delta, b, c = (v.transpose(0, 1).contiguous() for v in (x, delta, b, c))
        a = a.t().contiguous()
        y, starts = torch.empty_like(x), []
        state = x.new_zeros(x.shape[1], *a.shape)
        for first in range(0, len(x), CHUNK):
            part = slice(first, first + CHUNK)
            starts.append(state)
            _, states = _states(state, x[part], delta[part], a, b[part])
            y[part] = torch.matmul(c[part].unsqueeze(2), states).squeeze(2)
            state = states[-1].clone()
        ctx.save_for_backward(x, delta, a, b, c, d, *starts)
        return y.addcmul_(x, d).transpose(0, 1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        x, delta, a, b, c, d, *starts = ctx.saved_tensors
        grad = grad.transpose(0, 1).contiguous()
        found = [torch.empty_like(v) for v in (x, delta, b, c)]
        grad_a, later = torch.zeros_like(a), torch.zeros_like(starts[0])
        with torch.autocast(x.device.type, enabled=False):
            for chunk in reversed(range(len(starts))):
                part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
                tokens = (x[part], delta[part], b[part], c[part])
                *grads, more, later = _chunk_gradients(starts[chunk], tokens, a, grad[part], later)
                for whole, piece in zip(found, grads, strict=True):
                    whole[part] = piece
                grad_a += more
        grad_d = (grad * x).sum((0, 1))
        found[0].addcmul_(grad, d)
        grad_x, grad_delta, grad_b, grad_c = (v.transpose(0, 1) for v in found)
        return grad_x, grad_delta, grad_a.t(), grad_b, grad_c, grad_d


def _states(
    before: Float[Tensor, "batch state channels"],
    x: Float[Tensor, "tokens batch channels"],
    delta: Float[Tensor, "tokens batch channels"],
    a: Float[Tensor, "state channels"],
    b: Float[Tensor, "tokens batch state"],
) -> tuple[Float[Tensor, "tokens batch state channels"], Float[Tensor, "tokens batch state channels"]]:
    """Decay factors and states h of a few tokens; `before` is the state that they start from."""
    # torch's exp2 takes a third of its exp's time.
    decay = (delta.unsqueeze(2) * (a * math.log2(math.e))).exp2_()
    states = b.unsqueeze(3) * (delta * x).unsqueeze(2)
    for t in range(len(states)):
        before = states[t].addcmul_(decay[t], before)
    return decay, states


def _chunk_gradients(
    before: Tensor, tokens: tuple[Tensor, Tensor, Tensor, Tensor], a: Tensor, grad: Tensor, later: Tensor
) -> tuple[Tensor, ...]:
    """Of x (less what d passes), delta, b and c of a few tokens, of a, and of the state `before` them.

    With g[t] the gradient of h[t] and r[t] = g[t] decay[t] h[t-1] that of the exponent delta[t] a:

        g[t] = grad[t] c[t] + decay[t+1] g[t+1],  the last product of a chunk being `later`
        of x: delta sum_n g b      of delta: x sum_n g b + sum_n r a
        of b: sum_c g delta x      of c: sum_c grad h      of a: sum_t r delta
    """
    x, delta, b, c = tokens
    decay, states = _states(before, x, delta, a, b)
    g = c.unsqueeze(3) * grad.unsqueeze(2)
    g[-1] += later
    for t in range(len(g) - 2, -1, -1):
        g[t].addcmul_(decay[t + 1], g[t + 1])
    # The small factor stands on the left: the other way round, a batch of matrices times vectors is ten times slower.
    grad_c = torch.matmul(grad.unsqueeze(2), states.transpose(2, 3)).squeeze(2)
    grad_b = torch.matmul((delta * x).unsqueeze(2), g.transpose(2, 3)).squeeze(2)
    through_b = torch.matmul(b.unsqueeze(2), g).squeeze(2)
    r = decay.mul_(g)
    earlier = r[0].clone()
    r[0] *= before
    r[1:] *= states[:-1]
    grad_a = (r * delta.unsqueeze(2)).sum((0, 1))
    grad_delta = (r * a).sum(2).addcmul_(x, through_b)
    return delta * through_b, grad_delta, grad_b, grad_c, grad_a, earlier
