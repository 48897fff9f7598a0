"""Which augmentations a network takes: those under which it segments about as well as without."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...heads.labels import IGNORE, label_of
from ...interfaces import FitContext
from ...types import Batch
from .source import AugmentedPasses


def vet(source: AugmentedPasses, cases: Sequence[Batch], tolerance: float, context: FitContext) -> None:
    """Keep the augmentations whose Dice on labelled cases is at most `tolerance` below the identity's.

    Args:
        source: its `kept` is set.
        cases: labelled.
        tolerance: in Dice.
        context: its `say` hears what is dropped.
    """
    sums = [torch.zeros(())] * (1 + len(source.augmentations))
    for number, case in enumerate(cases):
        segmentation = source.segmenter.segment(case)
        label, identity = label_of(case, number), segmentation.probability()
        label = label.to(identity.device)
        sums[0] = sums[0] + overlap_sums(segmentation.labels(), label, identity.shape[1])
        for i in range(len(source.augmentations)):
            chosen = source.augmented(i, case, identity).argmax(dim=1)
            sums[1 + i] = sums[1 + i] + overlap_sums(chosen, label, identity.shape[1])
    plain, *others = [pooled_dice(s) for s in sums]
    for i, (augmentation, found) in enumerate(zip(source.augmentations, others, strict=True)):
        source.kept[i] = found >= plain - tolerance
        if not source.kept[i]:
            context.say(f"left out: {augmentation.name}, Dice {found:.3f} instead of {plain:.3f}")
    context.say(f"{source.sample_count} passes, the plain one included")


def overlap_sums(
    chosen: Int[Tensor, "batch *grid"], label: Int[Tensor, "batch *grid"], classes: int
) -> Float[Tensor, "2 foreground"]:
    """Per foreground class 2 |A and B| and |A| + |B|, over the voxels whose label is known."""
    known = label != IGNORE
    first, second = chosen[known], label[known]
    both = torch.bincount(first[first == second], minlength=classes)
    sizes = torch.bincount(first, minlength=classes) + torch.bincount(second, minlength=classes)
    return torch.stack([2 * both, sizes])[:, 1:].double().cpu()


def pooled_dice(sums: Float[Tensor, "2 foreground"]) -> float:
    """Mean over the classes that occur of 2 |A and B| / (|A| + |B|), pooled over cases; 1 where none occurs.

    Example:
        >>> pooled_dice(torch.tensor([[2.0, 0.0], [4.0, 0.0]]))
        0.5
    """
    both, sizes = sums
    there = sizes > 0
    return float((both[there] / sizes[there]).mean()) if bool(there.any()) else 1.0
