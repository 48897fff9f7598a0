"""What heads see of a hypothesis: tokens, free numbers, and which hypothesis, prompt and network it is.

The paper reads [IoU token, mask token] (section 6 of its description of heads). Its code pairs hypothesis j with the
token m(j); the mask is made by m(j + 1), which is what `aligned` takes.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import InputError
from ...segmenters.promptable.protocol import HYPOTHESES
from .config import SamGapsConfig
from .records import PROMPT_KINDS, SEEN_AS, VISIBLE_KINDS, HypothesisInputs
from .shape import SHAPE_FEATURES

LEAST_SPREAD = 1e-6
"""A feature whose standard deviation among the fitting records is below this says nothing."""


def token_pairs(
    inputs: HypothesisInputs, convention: Literal["aligned", "published"]
) -> Float[Tensor, "rows hypotheses pair_width"]:
    """[IoU token, mask token] of every hypothesis, the IoU token first.

    Args:
        inputs: of decodes.
        convention: `aligned` takes m(j+1) for hypothesis j = 0, 1, 2; `published` takes m(j).
    """
    first = 0 if convention == "published" else 1
    masks = inputs.mask_tokens[:, first : first + HYPOTHESES]
    return torch.cat([inputs.iou_token[:, None].expand_as(masks), masks], dim=2)


def indicator_count(config: SamGapsConfig) -> int:
    """How many features, the last ones, are zeros and ones."""
    return 0 if config.features == "pairs" else HYPOTHESES + len(VISIBLE_KINDS) + len(config.ladder)


def feature_width(config: SamGapsConfig) -> int:
    """How many features `hypothesis_features` gives.

    Example:
        >>> feature_width(SamGapsConfig.published())
        512
    """
    tokens = 0 if config.features == "shape" else 2 * config.token_width
    shape = 1 + HYPOTHESES + len(SHAPE_FEATURES) if config.features in ("shape", "all") else 0
    return tokens + shape + indicator_count(config)


def hypothesis_features(
    inputs: HypothesisInputs, config: SamGapsConfig
) -> Float[Tensor, "rows hypotheses features"]:
    """Features as they are, before they are standardised: numbers first, indicators last.

    Raises:
        InputError: tokens of another width, or a rung that the ladder does not have.
    """
    _check(inputs, config)
    parts: list[Tensor] = []
    if config.features != "shape":
        parts.append(token_pairs(inputs, config.convention))
    if config.features in ("shape", "all"):
        everyones = inputs.estimates[:, None].expand(-1, HYPOTHESES, -1)
        parts += [inputs.estimates[:, :, None], everyones, inputs.shape]
    if config.features != "pairs":
        parts += _indicators(inputs, len(config.ladder))
    return torch.cat([part.float() for part in parts], dim=2)


def _indicators(inputs: HypothesisInputs, rungs: int) -> list[Tensor]:
    rows = len(inputs)
    hypothesis = torch.eye(HYPOTHESES, device=inputs.iou_token.device).expand(rows, -1, -1)
    seen = torch.tensor([VISIBLE_KINDS.index(SEEN_AS.get(kind, kind)) for kind in PROMPT_KINDS])
    visible = seen.to(inputs.kind.device)[inputs.kind.long()]
    kind = F.one_hot(visible, len(VISIBLE_KINDS))[:, None].expand(-1, HYPOTHESES, -1)
    rung = F.one_hot(inputs.rung.long(), rungs)[:, None].expand(-1, HYPOTHESES, -1)
    return [hypothesis, kind, rung]


def _check(inputs: HypothesisInputs, config: SamGapsConfig) -> None:
    width = inputs.iou_token.shape[1]
    if width != config.token_width:
        raise InputError(
            f"Tokens of width {width}, expected {config.token_width}; the heads belong to another network, or set "
            f"token_width={width} and fit them."
        )
    highest = int(inputs.rung.max()) if len(inputs) else 0
    if highest >= len(config.ladder):
        raise InputError(
            f"A decode of rung {highest}, expected at most {len(config.ladder) - 1} with the ladder "
            f"{', '.join(config.ladder)}."
        )


class Standard(nn.Module):
    """Features by mean and standard deviation of the fitting records; what did not vary there is 0 ever after.

    So a kind of prompt that no fitting record had is treated like an unknown one, instead of through weights that
    were never trained.

    Args:
        config: ladder and parts.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, config: SamGapsConfig):
        super().__init__()
        rungs, width = len(config.ladder), feature_width(config)
        self.kind = config.standardise
        self.numbers = width - indicator_count(config)
        self.register_buffer("mean", torch.zeros(rungs, width))
        self.register_buffer("scale", torch.ones(rungs, width))

    def fit(self, features: Float[Tensor, "rows hypotheses features"], rung: Int[Tensor, "rows"]) -> None:
        """Learn the statistics of the fitting records; a rung without records takes those of all."""
        if self.kind == "none":
            return
        for r in range(len(self.mean)):
            chosen = features[rung == r] if self.kind == "rung" and (rung == r).any() else features
            flat = chosen.flatten(0, 1).double()
            spread = flat.std(dim=0, unbiased=False)
            told = spread > LEAST_SPREAD
            self.mean[r] = flat.mean(dim=0)
            self.scale[r] = torch.where(told, 1 / spread.clamp(min=LEAST_SPREAD), 0.0)
        everyone = features.flatten(0, 1)
        varied = everyone.amax(dim=0) > everyone.amin(dim=0)
        self.mean[:, self.numbers :] = 0
        self.scale[:, self.numbers :] = varied[self.numbers :].float()

    def forward(
        self, features: Float[Tensor, "rows hypotheses features"], rung: Int[Tensor, "rows"]
    ) -> Float[Tensor, "rows hypotheses features"]:
        """Standardised features."""
        rung = rung.long()
        return (features - self.mean[rung][:, None]) * self.scale[rung][:, None]
