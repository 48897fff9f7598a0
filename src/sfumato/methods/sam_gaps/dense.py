"""The dense prompt: eight clicks inside of an object (paper, section 5.2)."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError
from ...types import SpatialPrompt

CLICKS = 8
EROSION = 5
"""Side of the box by which an object is eroded first, where something is left of it."""


def dense_prompt(
    mask: Bool[Tensor, "height width"], generator: torch.Generator, given: SpatialPrompt | None = None
) -> SpatialPrompt:
    """The pixel nearest to the centroid, and seven others drawn evenly, all foreground; a box that was given stays.

    Args:
        mask: of the object.
        generator: on the CPU, draws the clicks.
        given: the one prompt that this one is better than.

    Raises:
        InputError: an empty mask.

    Example:
        >>> mask = torch.zeros(20, 30, dtype=torch.bool)
        >>> mask[4:13, 10:19] = True
        >>> dense_prompt(mask, torch.Generator().manual_seed(0)).coordinates[0, 0].tolist()
        [8.0, 14.0]
    """
    if not mask.any():
        raise InputError("An empty mask, expected an object of at least one pixel.")
    eroded = ~(F.max_pool2d((~mask)[None, None].float(), EROSION, stride=1, padding=EROSION // 2)[0, 0] > 0)
    places = (eroded if eroded.any() else mask).nonzero().float()
    centre = (places - places.mean(dim=0)).square().sum(dim=1).argmin()
    others = torch.arange(len(places))[torch.arange(len(places)) != centre]
    if len(others) >= CLICKS - 1:
        drawn = others[torch.randperm(len(others), generator=generator)[: CLICKS - 1]]
    else:
        drawn = torch.randint(0, len(places), (CLICKS - 1,), generator=generator)
    clicks = torch.cat([places[centre][None], places[drawn]])[None]
    corners = None if given is None else given.corners
    return SpatialPrompt(clicks, torch.ones(1, CLICKS, dtype=torch.long), corners)
