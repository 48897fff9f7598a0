"""Settings of the perturbation head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import ConfigError, UnknownNameError
from ...heads.fusion import FUSIONS
from .patterns import PATTERNS

_CHOICES = {
    "patterns": PATTERNS,
    "fusion": FUSIONS,
    "epistemic": ("sampled", "first_order"),
    "residual": ("reference", "expected"),
    "combiner": ("learned", "paper"),
    "precision": ("float32", "bfloat16", "auto"),
}


@dataclass(frozen=True)
class PerturbationHeadConfig:
    """How the head is built and fitted; the defaults are the `robust` setting, `paper()` is the paper's.

    Args:
        width: channels F of the fused feature; the tap's own with `fusion="none"`.
        probes: rank-1 probes R.
        patterns: sign patterns of the epistemic map, `hadamard` or `reference` (the paper's).
        fusion: `reference` (the paper's), `light` (no wide convolutions) or `none` (the finest tap as it is).
        epistemic: `sampled` over the patterns, or its `first_order` closed form.
        residual: `reference` (coefficients all +1) or `expected` over random signs.
        centred: subtract the class mean of the perturbation before its energy is taken.
        aleatoric: whether there is an aleatoric branch; without it no ALEATORIC map is declared or filled.
        gamma: steepness of the ambiguity weight exp(-gamma margin).
        combiner: `learned` adds a small network to the paper's ranking map, `paper` is that map alone.
        hidden: width of the learned combiner.
        global_temperature: fit a global temperature; without it T is at least 1, as in the paper.
        class_scaling: the ranking sees the logits through a scale and a bias per class, fitted by likelihood on the
            fitting cases (vector scaling); labels, probabilities and the other maps do not.
        likelihood: weight of the negative log-likelihood of the tempered probability.
        correlation: weight of the error correlation loss.
        pairwise: weight of the pairwise ranking loss.
        tail: weight of the soft error rate among the most trusted voxels.
        trust: weight of the size of the perturbation and of what it does to the probability.
        anchor: weight of the distance between ranking map and its anchor.
        energy: weight of the residual energy where the segmenter is sure.
        plain: weight of a plain binary cross-entropy of a logistic map of the score; 0 in the paper.
        pairs: most pairs drawn per step.
        tau: temperature of the correlation and pairwise losses.
        pair_margin: margin of the pairwise loss.
        tail_temperature: of the tail loss.
        easy_share: share of correct and confident voxels that the losses see, reweighted by its inverse where a
            mean is taken; 1 takes every voxel, as the paper does.
        epochs: passes over the fitting cases at most.
        steps: optimiser steps at most, to the next whole pass; 0 sets no limit.
        folds: parts of the fitting cases; heads trained on the others choose, near the foreground, after how many
            of the steps to stop. 0 takes all steps.
        batch_size: cases (slices for 2-D networks) per step.
        learning_rate: peak, reached at the start.
        final_learning_rate: where the cosine ends.
        weight_decay: of AdamW.
        clip: largest global gradient norm.
        average: decay of the moving average of the weights; 0 turns it off.
        precision: of the convolutions while fitting.
        patch: random crops of this size are fitted on; empty takes the segmenter's window.
        cache_gib: features beyond this many GiB are recomputed instead of kept.
    """

    width: int = 32
    probes: int = 8
    patterns: Literal["hadamard", "reference"] = "hadamard"
    fusion: Literal["reference", "light", "none"] = "light"
    epistemic: Literal["sampled", "first_order"] = "sampled"
    residual: Literal["reference", "expected"] = "reference"
    centred: bool = True
    aleatoric: bool = True
    gamma: float = 4.0
    combiner: Literal["learned", "paper"] = "learned"
    hidden: int = 32
    global_temperature: bool = True
    class_scaling: bool = False
    likelihood: float = 0.5
    correlation: float = 0.0
    pairwise: float = 0.0
    tail: float = 0.0
    trust: float = 0.05
    anchor: float = 0.0
    energy: float = 0.05
    plain: float = 1.0
    pairs: int = 65536
    tau: float = 1.0
    pair_margin: float = 0.0
    tail_temperature: float = 0.25
    easy_share: float = 1.0
    epochs: int = 30
    steps: int = 450
    folds: int = 3
    batch_size: int = 1
    learning_rate: float = 3e-3
    final_learning_rate: float = 1e-4
    weight_decay: float = 0.01
    clip: float = 12.0
    average: float = 0.98
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    patch: tuple[int, ...] = ()
    cache_gib: float = 4.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "patch", tuple(self.patch))  # JSON gives lists
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        for name in ("width", "probes", "hidden", "pairs", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected at least 1.")
        for name in ("gamma", "tau", "tail_temperature", "learning_rate", "clip", "easy_share"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a positive number.")
        if self.folds < 0:
            raise ConfigError(f"folds={self.folds}, expected 0 or more.")
        if self.plain > 0 and self.combiner == "paper":
            raise ConfigError(
                f"plain={self.plain} with combiner='paper', expected plain=0: the paper's map has no zero to "
                "compare with; set plain=0 or combiner='learned'."
            )
        if self.easy_share > 1:
            raise ConfigError(f"easy_share={self.easy_share}, expected at most 1.")

    @classmethod
    def paper(cls, **changes: Any) -> PerturbationHeadConfig:
        """The paper's setting: reference patterns, no global temperature, its own ranking map, losses on all voxels.

        Example:
            >>> PerturbationHeadConfig.paper().patterns
            'reference'
        """
        paper = {
            "patterns": "reference",
            "fusion": "reference",
            "correlation": 0.25,
            "pairwise": 0.25,
            "tail": 0.25,
            "anchor": 0.05,
            "centred": False,
            "combiner": "paper",
            "global_temperature": False,
            "plain": 0.0,
            "easy_share": 1.0,
            "epochs": 200,
            "steps": 0,
            "folds": 0,
            "batch_size": 2,
            "learning_rate": 1e-3,
            "final_learning_rate": 3e-4,
            "average": 0.0,
        }
        return cls(**(paper | changes))
