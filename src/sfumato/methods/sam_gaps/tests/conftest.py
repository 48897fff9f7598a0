"""Records of decodes that never were: tokens are noise, and some directions in them tell the true IoU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sfumato.methods.sam_gaps.records import PROMPT_KINDS, GapRecords, HypothesisInputs
from sfumato.methods.sam_gaps.shape import SHAPE_FEATURES

WIDTH = 16


def make_records(
    prompts: int, seed: int, rungs: int = 2, told: bool = True, group_size: int = 4
) -> GapRecords:
    """Every prompt on every rung.

    Args:
        prompts: how many.
        seed: of the tokens.
        rungs: networks of the ladder.
        told: whether tokens tell the true IoU; else only which hypothesis they are and the networks' estimates.
        group_size: prompts per picture.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.Generator().manual_seed(0)
    along = torch.randn(WIDTH, generator=directions) / WIDTH**0.5
    rows = prompts * rungs
    tokens = torch.randn(rows, 4, WIDTH, generator=generator)
    quality = torch.randn(rows, 3, generator=generator)
    iou = torch.sigmoid(2 * (tokens[:, 1:] @ along if told else quality))
    estimates = (iou + 0.3 * torch.randn(rows, 3, generator=generator)).clamp(0, 1)
    iou_token = torch.randn(rows, WIDTH, generator=generator)
    iou_token[:, :3] = estimates
    if not told:
        tokens = 3 * torch.eye(4, WIDTH).expand(rows, -1, -1).clone()
        iou_token[:, 3:] = 0
    rung = torch.arange(rungs).repeat(prompts)
    own = estimates.argmax(dim=1)
    by_rung_best = iou.amax(dim=1).reshape(prompts, rungs).repeat_interleave(rungs, dim=0)
    by_rung_own = iou.gather(1, own[:, None]).reshape(prompts, rungs).repeat_interleave(rungs, dim=0)
    shape = torch.randn(rows, 3, len(SHAPE_FEATURES), generator=generator)
    kind = torch.randint(0, len(PROMPT_KINDS) - 1, (prompts,), generator=generator).repeat_interleave(rungs)
    dense = 0.5 + 0.5 * iou.amax(dim=1)
    prompt = [i // rungs for i in range(rows)]
    return GapRecords(
        HypothesisInputs(iou_token, tokens, estimates, shape, kind, rung),
        iou,
        by_rung_best,
        by_rung_own,
        dense,
        dense - 0.05,
        {},
        tuple(f"picture{p // group_size}#{p % group_size}" for p in prompt),
        tuple(f"picture{p // group_size}" for p in prompt),
        tuple("even" if (p // group_size) % 3 else "odd" for p in prompt),
    )


@pytest.fixture(scope="session")
def phantom_records() -> Callable[..., GapRecords]:
    """`phantom_records(prompts, seed, rungs=2, told=True)`; tokens are 16 wide."""
    return make_records
