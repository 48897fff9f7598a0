"""The selective scan as its two lines read (arXiv 2312.00752): one token after the other, gradients by autograd."""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan_loop(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(batch, length, channels) x and delta, (channels, state) a, (batch, length, state) b and c, (channels,) d.

    Tokens are taken out by their number, so that each one's gradient is written into zeros of the whole sequence: the
    backward pass takes time that grows with the square of the length.
    """
    tokens = [(x[:, t], delta[:, t], b[:, t], c[:, t]) for t in range(x.shape[1])]
    return _over_tokens(tokens, a, d)


def selective_scan_split_loop(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """As `selective_scan_loop`; tokens are taken apart at once, which spares it the square."""
    return _over_tokens(list(zip(*(v.unbind(1) for v in (x, delta, b, c)), strict=True)), a, d)


def _over_tokens(tokens: list[tuple[Tensor, ...]], a: Tensor, d: Tensor) -> Tensor:
    state = a.new_zeros(len(tokens[0][0]), *a.shape)
    outputs = []
    for x, delta, b, c in tokens:
        step = delta[:, :, None]
        state = torch.exp(step * a) * state + step * b[:, None, :] * x[:, :, None]
        outputs.append((state * c[:, None, :]).sum(dim=2) + d * x)
    return torch.stack(outputs, dim=1)
