"""The selective scan as its two lines read (arXiv 2312.00752): one token after the other, gradients by autograd."""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan_loop(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """(batch, length, channels) x and delta, (channels, state) a, (batch, length, state) b and c, (channels,) d."""
    state = x.new_zeros(len(x), *a.shape)
    outputs = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None]
        state = torch.exp(step * a) * state + step * b[:, t, None, :] * x[:, t, :, None]
        outputs.append((state * c[:, t, None, :]).sum(dim=2) + d * x[:, t])
    return torch.stack(outputs, dim=1)
