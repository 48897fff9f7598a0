"""Several probabilities of the same voxels (dropout, augmentation, members), reduced to running sums.

With M passes p_m: mean p = sum_m p_m / M; expected entropy = sum_m H(p_m) / M; vote share of class c = the share of
passes whose arg-max is c. Memory does not grow with M. Predictive entropy H(mean p) splits into expected entropy
(aleatoric) and mutual information H(mean p) - expected entropy (epistemic), which is never negative as H is concave
(Depeweg et al., 2018, arXiv 1710.07283).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from .entropy import entropy

NAMES = ("mean", "expected_entropy", "votes")


@dataclass
class Passes:
    """Running sums over passes; `add` each pass, then read `responses`.

    Example:
        >>> passes = Passes()
        >>> for p in ([0.9, 0.1], [0.5, 0.5]):
        ...     passes.add(torch.tensor(p).reshape(1, 2, 1))
        >>> [round(v, 3) for v in passes.responses()["mean"].flatten().tolist()]
        [0.7, 0.3]
    """

    count: int = 0
    mean: Tensor | float = 0.0
    expected_entropy: Tensor | float = 0.0
    votes: Tensor | float = 0.0

    def add(self, probability: Float[Tensor, "batch classes *grid"]) -> None:
        """One more pass; running means, so that few passes lose no digits to many."""
        self.count += 1
        share = 1 / self.count
        chosen = (
            F.one_hot(probability.argmax(dim=1), probability.shape[1]).movedim(-1, 1).to(probability.dtype)
        )
        self.mean = self.mean + share * (probability - self.mean)
        self.expected_entropy = self.expected_entropy + share * (
            entropy(probability).unsqueeze(1) - self.expected_entropy
        )
        self.votes = self.votes + share * (chosen - self.votes)

    def responses(self) -> dict[str, Float[Tensor, "batch maps *grid"]]:
        """The three means by name: safe to average over overlapping windows."""
        return {name: torch.as_tensor(getattr(self, name)) for name in NAMES}


def mutual_information(
    mean: Float[Tensor, "batch classes *grid"], expected_entropy: Float[Tensor, "batch 1 *grid"]
) -> Float[Tensor, "batch *grid"]:
    """H(mean p) - mean H(p), nats, in [0, ln C]: what the passes disagree about."""
    return (entropy(mean) - expected_entropy[:, 0]).clamp_min(0.0)


def label_doubt(
    probability: Float[Tensor, "batch classes *grid"], labels: Int[Tensor, "batch *grid"]
) -> Float[Tensor, "batch *grid"]:
    """1 - the probability of a given label, in [0, 1]; the label need not be the arg-max."""
    return (1 - probability.gather(1, labels.unsqueeze(1))[:, 0]).clamp(0.0, 1.0)


def vote_sums(votes: Float[Tensor, "batch classes *grid"], passes: int) -> Float[Tensor, "batch sums"]:
    """What `pairwise_dice` needs of a piece of a grid, float64: per foreground class sum n (M n - 1) and sum n.

    n is the vote share. Among the ordered pairs of M passes, M n (M n - 1) both chose a class where M n chose it.
    """
    share = votes[:, 1:].flatten(2).double()
    together = (share * (passes * share - 1)).clamp_min(0.0).sum(dim=2)
    return torch.cat([together, share.sum(dim=2)], dim=1)


def pairwise_dice(sums: Float[Tensor, "batch sums"], passes: int) -> Float[Tensor, "batch"]:
    """Dice between the passes' label maps, in [0, 1], the mean over classes that any pass chose; 1 where none did.

    Per class: sum over pairs of 2 |A and B| divided by sum over pairs of (|A| + |B|), that is
    sum n (M n - 1) / ((M - 1) sum n). A single pass agrees with itself: 1.
    """
    together, share = sums.chunk(2, dim=1)
    if passes < 2:
        return torch.ones(len(sums), device=sums.device)
    there = share > 0
    dice = torch.where(there, together / ((passes - 1) * share.clamp_min(1e-12)), 0.0)
    count = there.sum(dim=1)
    return torch.where(count > 0, dice.sum(dim=1) / count.clamp_min(1), 1.0).clamp(0.0, 1.0).float()


def responses_of(features: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean probability, expected entropy and vote shares from blended responses; the mean sums to 1 again."""
    mean = features["mean"].clamp_min(0.0)
    return (
        mean / mean.sum(dim=1, keepdim=True).clamp_min(1e-12),
        features["expected_entropy"],
        features["votes"],
    )
