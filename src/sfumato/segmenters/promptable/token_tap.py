"""The decoder's output tokens, seen where its own heads take them in.

The input of the head that estimates IoU is the IoU token, and the input of hypernetwork k is mask token k, whatever
the order of tokens in the transformer. Attributes have these names in SAM, SAM 2 and their kin, in the transformers
library and in the authors' own code (UncertainSAM's tokens, arXiv 2505.05049).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...errors import ConfigError

MASK_TOKENS = 4
"""m0 of the single mask, m1 to m3 of the hypotheses."""


@dataclass
class SeenTokens:
    """Tokens of the decoder's latest run; empty before the first."""

    found: dict[int | str, Tensor] = field(default_factory=dict)

    def iou_token(self) -> Float[Tensor, "*prompts feature_width"]:
        """What the head of estimated IoU took in."""
        return self.found["iou"]

    def mask_tokens(self) -> Float[Tensor, "*prompts 4 feature_width"]:
        """What the hypernetworks took in, m0 to m3."""
        return torch.stack([self.found[k] for k in range(MASK_TOKENS)], dim=-2)


def check_decoder(decoder: nn.Module) -> None:
    """Refuse a decoder whose tokens cannot be seen.

    Raises:
        ConfigError: no head of estimated IoU, or not four hypernetworks, under SAM's names.
    """
    networks = getattr(decoder, "output_hypernetworks_mlps", ())
    if (
        not isinstance(getattr(decoder, "iou_prediction_head", None), nn.Module)
        or len(networks) != MASK_TOKENS
    ):
        raise ConfigError(
            f"{type(decoder).__name__} is no mask decoder of SAM's: expected an iou_prediction_head and "
            f"{MASK_TOKENS} output_hypernetworks_mlps."
        )


@contextmanager
def seen_tokens(decoder: Any) -> Iterator[SeenTokens]:
    """The tokens of what runs inside the block. Nothing of the decoder is changed, and nothing stays behind.

    Do not use it on fused or compiled heads, which do not run hooks.

    Args:
        decoder: see `check_decoder`.

    Example:
        >>> decoder = nn.Module()
        >>> decoder.iou_prediction_head = nn.Linear(8, 4)
        >>> decoder.output_hypernetworks_mlps = nn.ModuleList(nn.Linear(8, 2) for _ in range(4))
        >>> with seen_tokens(decoder) as seen:
        ...     _ = decoder.iou_prediction_head(torch.ones(5, 8))
        ...     _ = [network(torch.ones(5, 8)) for network in decoder.output_hypernetworks_mlps]
        >>> tuple(seen.iou_token().shape), tuple(seen.mask_tokens().shape)
        ((5, 8), (5, 4, 8))
    """
    check_decoder(decoder)
    seen = SeenTokens()

    def keep(name: int | str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            seen.found[name] = arguments[0]

        return hook

    handles = [decoder.iou_prediction_head.register_forward_pre_hook(keep("iou"))]
    for k, network in enumerate(decoder.output_hypernetworks_mlps):
        handles.append(network.register_forward_pre_hook(keep(k)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
