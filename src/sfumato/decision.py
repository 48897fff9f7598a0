"""Selective prediction: accept a case or send it to review, by a rule fitted for a wanted risk.

A rule is a threshold on a score. It is fitted on calibration cases as the largest threshold whose accepted cases
keep the mean risk at or below the wanted one; the risk of a case is 1 - Dice, the risk of a voxel is being wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from .errors import ConfigError, InputError


@dataclass(frozen=True)
class Decision:
    """What to do with a case.

    Args:
        verdict: `accept`, or `review` by a person.
        score: the case's score, higher = more likely wrong.
        threshold: largest accepted score.
        reason: one sentence for people.
    """

    verdict: Literal["accept", "review"]
    score: float
    threshold: float
    reason: str


@dataclass(frozen=True)
class DecisionRule:
    """Accept up to a threshold.

    Args:
        level: `case` or `voxel`.
        kind: the score it looks at.
        threshold: largest accepted score; minus infinity accepts nothing.
        target_risk: wanted mean risk of what is accepted.
        coverage: share of the calibration cases (or voxels) that are accepted.
        selective_risk: their mean risk.
        count: how many the rule was fitted on.
    """

    level: Literal["case", "voxel"]
    kind: str
    threshold: float
    target_risk: float
    coverage: float
    selective_risk: float
    count: int

    def decide(self, score: float) -> Decision:
        """Accept or review one case, with the reason."""
        if not math.isfinite(score):
            return Decision("review", score, self.threshold, "The score is not a finite number.")
        target = f"a mean {'1 - Dice' if self.level == 'case' else 'error rate'} of {self.target_risk:.3g}"
        if self.coverage == 0:
            return Decision(
                "review", score, self.threshold, f"No calibration {self.level} could be accepted at {target}."
            )
        word = "at most" if score <= self.threshold else "above"
        verdict = "accept" if score <= self.threshold else "review"
        reason = (
            f"Expected 1 - Dice {score:.3f} is {word} the limit {self.threshold:.3f}, which keeps accepted "
            f"{self.level}s at {target} ({self.coverage:.0%} of {self.count} calibration {self.level}s were accepted)."
            if self.kind == "error"
            else f"{self.kind} score {score:.4g} is {word} the limit {self.threshold:.4g}, which keeps accepted "
            f"{self.level}s at {target} ({self.coverage:.0%} of {self.count} calibration {self.level}s were accepted)."
        )
        return Decision(verdict, score, self.threshold, reason)

    def to_json(self) -> dict[str, Any]:
        """Plain types; infinities become null."""
        return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DecisionRule:
        """The inverse of `to_json`."""
        try:
            threshold = content["threshold"]
            return cls(**{**content, "threshold": -math.inf if threshold is None else float(threshold)})
        except (TypeError, KeyError) as error:
            raise ConfigError(f"not a decision rule this version reads ({error}).") from error


def fit_decision_rule(
    scores: np.ndarray,
    risks: np.ndarray,
    target_risk: float,
    level: Literal["case", "voxel"] = "case",
    kind: str = "error",
    weights: np.ndarray | None = None,
) -> DecisionRule:
    """The largest threshold whose accepted part keeps its mean risk at or below the target.

    Args:
        scores: (n,) higher = more likely wrong.
        risks: (n,) in [0, 1].
        target_risk: wanted mean risk, in [0, 1].
        level: what one entry is.
        kind: the kind of score.
        weights: (n,) how many voxels an entry stands for; 1 by default.

    Example:
        >>> rule = fit_decision_rule(np.array([0.1, 0.2, 0.9]), np.array([0.0, 0.1, 0.8]), target_risk=0.1)
        >>> rule.threshold, round(rule.coverage, 3), rule.decide(0.5).verdict
        (0.2, 0.667, 'review')
    """
    if not 0 <= target_risk <= 1:
        raise ConfigError(f"target_risk={target_risk}, expected a number from 0 to 1.")
    if len(scores) == 0 or not (np.isfinite(scores).all() and np.isfinite(risks).all()):
        raise InputError("A decision rule needs at least one case, all with finite scores and risks.")
    weights = np.ones(len(scores)) if weights is None else weights.astype(float)
    order = np.argsort(scores, kind="stable")
    sorted_scores = scores[order]
    accepted = np.cumsum(weights[order])
    risk = np.cumsum((risks * weights)[order]) / np.maximum(accepted, 1e-300)
    last_of_tie = np.append(sorted_scores[1:] != sorted_scores[:-1], True)
    fine = np.flatnonzero(last_of_tie & (risk <= target_risk + 1e-12) & (accepted > 0))
    if len(fine) == 0:
        return DecisionRule(level, kind, -math.inf, target_risk, 0.0, 0.0, len(scores))
    k = fine[-1]
    coverage = float(accepted[k] / accepted[-1])
    return DecisionRule(
        level, kind, float(sorted_scores[k]), target_risk, coverage, float(risk[k]), len(scores)
    )
