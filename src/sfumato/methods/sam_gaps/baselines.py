"""What heads must beat: scores that cost nothing, chance, and a linear head on the very same features.

Scores are oriented as all uncertainty is: higher = more likely wrong, and corrected first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import InputError
from ...interfaces import FitContext
from .coding import decode, head_names
from .config import SamGapsConfig
from .features import Standard, hypothesis_features
from .records import GapRecords, HypothesisInputs
from .shape import SHAPE_FEATURES
from .training import Examples, check_records, held_out

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the linear head, in units of a standardised feature's variance."""


def free_scores(inputs: HypothesisInputs, seed: int = 0) -> dict[str, Float[Tensor, "rows"]]:
    """Scores of the network's own pick that need neither labels nor another pass, by name.

    `sam_score` is 1 - the network's own estimate of IoU; `instability` is 1 - SAM's stability score; `single_entropy`
    is H_Std, bits per foreground pixel of the mask; `task_entropy` is the entropy of the hypotheses' mean;
    `disagreement` is 1 - the best estimate's lead over the next; `random` is drawn.

    Args:
        inputs: of decodes.
        seed: of `random`.
    """
    own = inputs.own()[:, None]

    def of_own(name: str) -> Tensor:
        return inputs.shape[:, :, SHAPE_FEATURES.index(name)].gather(1, own)[:, 0]

    ranked = inputs.estimates.sort(dim=1, descending=True).values
    return {
        "sam_score": 1 - ranked[:, 0],
        "instability": 1 - of_own("stability"),
        "single_entropy": of_own("foreground_entropy"),
        "task_entropy": of_own("mixture_entropy"),
        "disagreement": 1 - (ranked[:, 0] - ranked[:, 1]),
        "random": torch.rand(len(inputs), generator=torch.Generator().manual_seed(seed)),
    }


@dataclass(frozen=True)
class LinearHeads:
    """Linear functions of the heads' own features, by least squares with a penalty; a control, not a method.

    Args:
        config: says what features and targets are.
        standard: statistics of the fitting records.
        weights: one column per head; the last row is the constant.
        penalty: that was chosen on held-out groups.
    """

    config: SamGapsConfig
    standard: Standard
    weights: Float[Tensor, "features_and_one heads"]
    penalty: float

    def outputs(self, inputs: HypothesisInputs) -> dict[str, Float[Tensor, "rows hypotheses"]]:
        """What every head says, by name, as `SamGaps.outputs`; cut to the range of its target."""
        names = head_names(self.config.ladder)
        found = _with_one(self.standard(hypothesis_features(inputs, self.config), inputs.rung)) @ self.weights
        told = decode(found.clamp(0, 1).float(), names, self.config.gap_range)
        return {name: told[..., i] for i, name in enumerate(names)}


def fit_linear_heads(
    fitting: GapRecords,
    config: SamGapsConfig,
    context: FitContext,
    penalties: Sequence[float] = PENALTIES,
) -> LinearHeads:
    """The linear control, with the same features, targets, weights and held-out groups as `fit_heads`.

    Args:
        fitting: records with their truth.
        config: features, targets, and the share of groups on which the penalty is chosen.
        context: its seed holds groups out.
        penalties: that are tried; the first one is taken where no group can be held out.

    Raises:
        InputError: no records, or no penalties above 0.
        ConfigError: records of another ladder.
    """
    check_records(fitting, config, "fitting")
    if not penalties or min(penalties) <= 0:
        raise InputError(f"Penalties {tuple(penalties)}, expected at least one, all above 0.")
    out = held_out(fitting, config.validation, context.seed)
    kept, validation = fitting[~out], fitting[out]
    standard = Standard(config)
    standard.fit(hypothesis_features(kept.inputs, config), kept.inputs.rung)
    examples = Examples.of(kept, standard, config)
    tried = [_least_squares(examples, penalty) for penalty in penalties]
    best = 0
    if len(validation):
        judged = Examples.of(validation, standard, config)
        errors = [_unexplained(weights, judged) for weights in tried]
        best = min(range(len(tried)), key=errors.__getitem__)
    return LinearHeads(config, standard, tried[best], penalties[best])


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, torch.ones_like(features[..., :1])], dim=-1).double()


def _least_squares(examples: Examples, penalty: float) -> Float[Tensor, "features_and_one heads"]:
    """Per head argmin of sum w (x b - y)^2 + penalty (sum w) |b|^2, the constant not penalised."""
    features, weights, columns = _with_one(examples.features), examples.weights.double(), []
    for target in examples.targets.double().unbind(1):
        known = target.isfinite()
        x, w = features[known], weights[known]
        penalties = torch.full((features.shape[1],), penalty * max(float(w.sum()), 1.0)).double()
        penalties[-1] = 1e-9  # so that a head of which nothing is known has a solution too
        weighed = x * w[:, None]
        columns.append(torch.linalg.solve(weighed.T @ x + penalties.diag(), weighed.T @ target[known]))
    return torch.stack(columns, dim=1)


def _unexplained(coefficients: Tensor, examples: Examples) -> float:
    """Mean over the heads of weighted squared error over variance."""
    told, shares = _with_one(examples.features) @ coefficients, []
    for i, target in enumerate(examples.targets.double().unbind(1)):
        known = target.isfinite()
        y, w = target[known], examples.weights[known].double()
        if len(y) > 1 and float(y.var()) > 0:
            error = (w * (told[known, i] - y).square()).sum() / w.sum()
            shares.append(float(error / y.var(unbiased=False)))
    return sum(shares) / max(1, len(shares))
