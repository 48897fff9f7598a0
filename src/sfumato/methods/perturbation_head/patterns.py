"""Fixed sign patterns: the coefficient vectors that the perturbed softmaxes of the epistemic map use.

Rows are patterns, columns are probes, entries are +1 or -1. They are integers and travel in the checkpoint, so no
processor, precision or library version can change them.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Int8
from torch import Tensor

from ...errors import ConfigError, UnknownNameError

PATTERNS = ("hadamard", "reference")

_REFERENCE_8 = (
    "++++----",
    "++----++",
    "+---+++-",
    "+--++--+",
    "+-++--+-",
    "+-+--+-+",
    "+-+-+-+-",
    "-+-+-+-+",
)
"""The paper's table for eight probes as float32 gives it (arXiv 2604.15271, released code). Its last row is the
rounding noise of cosines that are exactly zero, which is why it is written down instead of computed."""


def reference_patterns(probes: int) -> Int8[Tensor, "patterns probes"]:
    """The paper's patterns: signs of cos(pi i (r + 1/2) / R), i = 1..R, r = 0..R-1, with zero counted as +1.

    Neither zero-mean nor orthogonal; kept to reproduce the paper. For R other than 8 they are computed in float32
    on the CPU, once, when a head is built.

    Example:
        >>> reference_patterns(8).sum(0).tolist()
        [6, -2, 0, 0, -2, -2, 0, 0]
    """
    _check(probes)
    if probes == 8:
        return torch.tensor([[1 if s == "+" else -1 for s in row] for row in _REFERENCE_8], dtype=torch.int8)
    index = torch.arange(1, probes + 1, dtype=torch.float32)[:, None]
    probe = torch.arange(probes, dtype=torch.float32)[None]
    cosine = torch.cos(math.pi * index * (probe + 0.5) / probes)
    return torch.where(cosine >= 0, 1, -1).to(torch.int8)


def hadamard_patterns(probes: int) -> Int8[Tensor, "patterns probes"]:
    """Rows of a Hadamard matrix and their negatives: zero mean, identity covariance, and no odd moment.

    For R not a power of two, the first R columns of the next larger matrix; there are 2 * 2^ceil(log2 R) patterns.

    Example:
        >>> hadamard_patterns(2).tolist()
        [[1, 1], [1, -1], [-1, -1], [-1, 1]]
    """
    _check(probes)
    matrix = torch.ones(1, 1, dtype=torch.int8)
    while matrix.shape[0] < probes:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    rows = matrix[:, :probes]
    return torch.cat([rows, -rows])


def make_patterns(name: str, probes: int) -> Int8[Tensor, "patterns probes"]:
    """The patterns of one of `PATTERNS`.

    Raises:
        UnknownNameError: another name.
        ConfigError: less than one probe.
    """
    if name not in PATTERNS:
        raise UnknownNameError("pattern table", name, PATTERNS)
    return reference_patterns(probes) if name == "reference" else hadamard_patterns(probes)


def _check(probes: int) -> None:
    if probes < 1:
        raise ConfigError(f"probes={probes}, expected at least 1.")
