"""How far a segmentation hangs on the words it was given, apart from how doubtful the image is.

The same image is segmented with its sentence and with variants of it: no sentence, paraphrases. Where the answers
differ, the words decide; where each of them is undecided, the image does. Predictive entropy of the mean answer splits
into these two as it does for an ensemble (Depeweg et al., 2018, arXiv 1710.07283), with sentences in place of members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import InputError
from ...measures.passes import Passes, mutual_information


@dataclass(frozen=True)
class TextSensitivity:
    """What variants of a sentence do to a segmentation.

    Args:
        shift: mean over variants of |p(variant) - p(sentence)|, where the difference of two distributions over classes
            is half the sum of absolute differences (total variation; for two classes the difference of the
            foreground's probability); in [0, 1].
        words: doubt that comes from the wording, nats: entropy of the mean probability over the sentence and its
            variants, minus `image`; in [0, ln C].
        image: doubt that is left when the words are given, nats: mean entropy over the same; in [0, ln C].
        moved: per variant, 1 - Dice between the foreground with the variant and with the sentence, in [0, 1]; 0 where
            both are empty.
    """

    shift: Float[Tensor, "batch *grid"]
    words: Float[Tensor, "batch *grid"]
    image: Float[Tensor, "batch *grid"]
    moved: Float[Tensor, "variants batch"]


def text_sensitivity(
    sentence: Float[Tensor, "batch classes *grid"],
    variants: Sequence[Float[Tensor, "batch classes *grid"]],
) -> TextSensitivity:
    """Compare the answer to a sentence with those to its variants.

    Args:
        sentence: probability of every class, background first.
        variants: the same for each variant, on the same grid.

    Raises:
        InputError: no variant, or one of another shape.

    Example:
        >>> said = torch.tensor([0.1, 0.9]).reshape(1, 2, 1)
        >>> found = text_sensitivity(said, [torch.tensor([0.5, 0.5]).reshape(1, 2, 1), said])
        >>> round(found.shift.item(), 3), found.moved.tolist()  # 0.4 and 0; a tie is background
        (0.2, [[1.0], [0.0]])
    """
    if not variants or any(variant.shape != sentence.shape for variant in variants):
        shapes = [tuple(variant.shape) for variant in variants]
        raise InputError(
            f"Variants of shapes {shapes}, expected at least one of {tuple(sentence.shape)}, the sentence's own; "
            "segment the same image with each."
        )
    passes, shift = Passes(), torch.zeros_like(sentence[:, 0])
    passes.add(sentence)
    for variant in variants:
        passes.add(variant)
        shift = shift + 0.5 * (variant - sentence).abs().sum(dim=1) / len(variants)
    seen = passes.responses()
    own = sentence.argmax(dim=1)
    return TextSensitivity(
        shift.clamp(0.0, 1.0),
        mutual_information(seen["mean"], seen["expected_entropy"]),
        seen["expected_entropy"][:, 0],
        torch.stack([moved(own, variant.argmax(dim=1)) for variant in variants]),
    )


def moved(first: Int[Tensor, "batch *grid"], second: Int[Tensor, "batch *grid"]) -> Float[Tensor, "batch"]:
    """1 - Dice of the voxels that have the same foreground class in both label maps, in [0, 1]; 0 where both are empty.

    Example:
        >>> moved(torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 1, 0, 0]])).tolist()
        [0.5]
    """
    first, second = first.flatten(1), second.flatten(1)
    both = ((first == second) & (first > 0)).sum(dim=1)
    sizes = (first > 0).sum(dim=1) + (second > 0).sum(dim=1)
    return torch.where(sizes > 0, 1 - 2 * both / sizes.clamp_min(1), 0.0)
