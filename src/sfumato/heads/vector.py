"""A scale and a bias per class, fitted by likelihood on voxels that are read a chunk at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 1 << 18
"""Voxels per chunk: memory is one chunk in float64, however many cases there are."""
RIDGE = 1e-6
"""Weight of the squared distance from scale 1 and bias 0: without it a set that can be told apart without error, or a
class without logit of its own, has no finite or no single optimum."""


def fit_vector_scaling(
    logits: Sequence[Float[Tensor, "classes _"]], labels: Sequence[Int[Tensor, "_"]], steps: int = 200
) -> tuple[Float[Tensor, "classes"], Float[Tensor, "classes"]]:
    """The scale w and bias b with the smallest mean of -ln softmax(w z + b)_y, plus a tiny ridge.

    Convex in (w, b); limited-memory BFGS with a strong Wolfe line search, in float64 (Liu and Nocedal, 1989).

    Args:
        logits: per case.
        labels: per case, no -1 among them.
        steps: most iterations.

    Example:
        >>> z = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
        >>> w, b = fit_vector_scaling([z], [torch.tensor([0, 0, 0, 1])])
        >>> [round(p, 3) for p in torch.softmax(w[:, None] * z + b[:, None], 0)[:, 0].tolist()]
        [0.75, 0.25]
    """
    classes = logits[0].shape[0]
    # A bias that is the same for all classes changes nothing and has no gradient: it stays at 0.
    scale = torch.ones(classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [scale, bias],
        max_iter=steps,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        optimiser.zero_grad()
        return _add_gradient(logits, labels, scale, bias)

    optimiser.step(closure)
    return scale.detach(), bias.detach()


@torch.enable_grad()
def _add_gradient(logits: Sequence[Tensor], labels: Sequence[Tensor], scale: Tensor, bias: Tensor) -> float:
    """The objective, its gradient added to `scale.grad` and `bias.grad` a chunk at a time."""
    count = sum(y.numel() for y in labels)
    ridge = RIDGE * ((scale - 1).square().sum() + bias.square().sum())
    ridge.backward()
    total = float(ridge.detach())
    for z, y in zip(logits, labels, strict=True):
        for some, wanted in zip(z.split(CHUNK, dim=1), y.split(CHUNK), strict=True):
            loss = -log_likelihood(some.double(), wanted, scale, bias) / count
            loss.backward()
            total += float(loss.detach())
    return total


def log_likelihood(
    logits: Float[Tensor, "classes _"], label: Int[Tensor, "_"], scale: Tensor, bias: Tensor
) -> Float[Tensor, ""]:
    """Sum over voxels of ln softmax(w z + b)_y."""
    scaled = scale[:, None] * logits + bias[:, None]
    return torch.log_softmax(scaled, dim=0).gather(0, label[None]).sum()
