"""The DUO loss once more, with loops and a singular value decomposition: what `DuoLoss` is tested against."""

from __future__ import annotations

import math

import numpy as np

from ...types import Link
from .class_loss import SMOOTHING
from .coefficients import FLOOR
from .config import DuoConfig


def slow_scale(class_map: np.ndarray) -> float:
    """S of one class map (*grid): entropy of its squared singular values over ln r; 0 where it is not defined."""
    matrix = class_map.reshape(class_map.shape[0], -1)
    energy = [float(s) ** 2 for s in np.linalg.svd(matrix, compute_uv=False)]
    if len(energy) < 2 or sum(energy) == 0:
        return 0.0
    shares = [e / sum(energy) for e in energy]
    return -sum(p * math.log(p) for p in shares if p > 0) / math.log(len(shares))


def slow_log_odds(voxel: list[float], link: Link) -> list[float]:
    """Log-odds of each class of one voxel against the others."""
    if link is Link.SIGMOID:
        return voxel
    odds = []
    for c, logit in enumerate(voxel):
        others = [a for k, a in enumerate(voxel) if k != c]
        top = max(others)
        odds.append(logit - top - math.log(sum(math.exp(a - top) for a in others)))
    return odds


def slow_duo_loss(
    logits: np.ndarray,
    labels: np.ndarray,
    noise_logits: np.ndarray,
    raw: np.ndarray,
    config: DuoConfig,
    link: Link = Link.SOFTMAX,
) -> float:
    """`total` of a `DuoLoss` with a table, after its warm-up, without a moving average.

    Args:
        logits: (batch, channels, *grid).
        labels: (batch, *grid), -1 where unknown.
        noise_logits: (batch, classes, *grid).
        raw: (batch, classes): the table, row b being the case of row b, which is all cases there are.
        config: weights `scale` or `none`.
        link: as in `DuoLoss`.
    """
    spread = math.sqrt(sum((v - raw.mean()) ** 2 for v in raw.flat) / raw.size + FLOOR)
    rows, weights, squares = [], [], []
    for b in range(len(logits)):
        known = np.argwhere(labels[b] >= 0)
        voxels = [tuple(v) for v in known]
        background = [1.0] * len(voxels)
        losses, own = [], []
        odds = [slow_log_odds([float(x) for x in logits[(b, slice(None), *v)]], link) for v in voxels]
        first = 1 if link is Link.SOFTMAX else 0
        for c in range(raw.shape[1]):
            target = []
            for i, v in enumerate(voxels):
                g = 1 / (1 + math.exp(-float(noise_logits[(b, c, *v)])))
                squares.append(g * g)
                y = float(labels[(b, *v)] == c + 1) - config.rho * (raw[b, c] - raw.mean()) / spread * g
                target.append(min(1.0, max(0.0, y)))
                background[i] -= target[-1]
            blank = np.where(labels[b] >= 0, logits[b, first + c], 0.0)
            scale = 0.0 if config.weights == "none" else slow_scale(blank)
            own.append(1.0 if config.weights == "none" else 1 / (1 + config.alpha * scale))
            losses.append(_mixture([o[first + c] for o in odds], target, config.beta))
        outside = _mixture([o[0] for o in odds], [min(1.0, max(0.0, y)) for y in background], config.beta)
        rows.append((outside, losses))
        weights.append(own)
    mean = np.mean(weights) if config.normalise else 1.0
    cases = []
    for (outside, losses), own in zip(rows, weights, strict=True):
        terms = [w / mean * loss for w, loss in zip(own, losses, strict=True)]
        cases.append(np.mean([outside, *terms] if link is Link.SOFTMAX else terms))
    return float(np.mean(cases)) + config.noise_penalty * float(np.mean(squares))


def _mixture(odds: list[float], target: list[float], beta: float) -> float:
    """beta Dice loss + (1 - beta) cross-entropy of one class of one sample."""
    entropy = overlap = size = 0.0
    for odd, y in zip(odds, target, strict=True):
        p = 1 / (1 + math.exp(-odd))
        entropy -= y * math.log(p) + (1 - y) * math.log(1 / (1 + math.exp(odd)))
        overlap += 2 * p * y
        size += p + y
    dice = 1 - (overlap + SMOOTHING) / (size + SMOOTHING)
    return beta * dice + (1 - beta) * entropy / len(odds)
