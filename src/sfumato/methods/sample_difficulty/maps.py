"""From features of a frozen network to one real-valued map per class: the matrices whose spectra are taken.

Every function returns the maps, (classes, slices, rows, columns), and `present`, (classes, slices): False where a class
was not looked at, so that its slice is left out of the spectrum and not filled with a constant.

A segmenter's logits are such maps already (`logit_maps`). Features without classes become maps by their likeness to a
class's mean over the training set (`Prototypes`; labels are used at the level of the data set alone), or as a single
map of no class: their energy, or their first principal channel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ...errors import InputError

SMALLEST_NORM = 1e-12
"""Features shorter than this have no direction; their likeness to anything is 0."""


def energy_maps(
    features: Float[Tensor, "slices width rows columns"],
) -> tuple[Float[Tensor, "1 slices rows columns"], Bool[Tensor, "1 slices"]]:
    """The length of the feature vector at every cell: one map of no class.

    Example:
        >>> features = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
        >>> energy_maps(features)[0].item()
        5.0
    """
    return torch.linalg.vector_norm(features, dim=1)[None], _all_present(1, features)


def principal_maps(
    features: Float[Tensor, "slices width rows columns"],
) -> tuple[Float[Tensor, "1 slices rows columns"], Bool[Tensor, "1 slices"]]:
    """The first principal component of the case's feature vectors: one map of no class.

    The direction is the one of largest variance over all cells of all slices, so the map depends on the whole case.
    Its sign, which no spectrum sees, makes the direction's largest entry positive.

    Example:
        >>> features = torch.tensor([[1.0, 3.0], [1.0, 1.0]]).reshape(1, 2, 1, 2)
        >>> principal_maps(features)[0].flatten().tolist()
        [-1.0, 1.0]
    """
    tokens = features.movedim(1, -1).flatten(0, -2).double()
    centred = tokens - tokens.mean(dim=0)
    direction = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -1]
    direction = direction * direction[direction.abs().argmax()].sign()
    slices, _, rows, columns = features.shape
    return (centred @ direction).reshape(1, slices, rows, columns).float(), _all_present(1, features)


def logit_maps(
    logits: Float[Tensor, "slices channels rows columns"],
) -> tuple[Float[Tensor, "classes slices rows columns"], Bool[Tensor, "classes slices"]]:
    """A segmenter's raw logits of its foreground classes; a lone channel is the foreground's.

    Example:
        >>> logit_maps(torch.zeros(5, 4, 8, 8))[0].shape, logit_maps(torch.zeros(5, 1, 8, 8))[0].shape
        (torch.Size([3, 5, 8, 8]), torch.Size([1, 5, 8, 8]))
    """
    foreground = logits if logits.shape[1] == 1 else logits[:, 1:]
    return foreground.transpose(0, 1), _all_present(foreground.shape[1], logits)


def present_in(labels: Int[Tensor, "slices *plane"], classes: int) -> Bool[Tensor, "classes slices"]:
    """In which slices each foreground class 1, ..., `classes` occurs.

    Of a prediction, not of the label, where a score has to stay label-free.

    Example:
        >>> present_in(torch.tensor([[0, 1], [0, 0], [2, 1]]), 2).tolist()
        [[True, False, True], [False, False, True]]
    """
    flat = labels.flatten(1)
    return torch.stack([(flat == c).any(dim=1) for c in range(1, classes + 1)])


@dataclass(frozen=True)
class Prototypes:
    """The mean feature vector of every foreground class over a training set, as sums that add up over cases.

    Args:
        names: of the foreground classes; the label value of a class is its position plus one.
        sums: float64, sum of feature vectors, each weighted by its cell's share of the class.
        weights: float64, sum of those shares, in cells.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 2, 1, 2)
        >>> fitted = Prototypes.of(features, torch.tensor([[[1, 2]]]), ("left", "right"))
        >>> maps, present = fitted.maps(features)
        >>> maps[:, 0, 0].tolist(), present.tolist()
        ([[1.0, 0.0], [0.0, 1.0]], [[True], [True]])
    """

    names: tuple[str, ...]
    sums: Float[Tensor, "classes width"]
    weights: Float[Tensor, "classes"]

    @classmethod
    def of(
        cls,
        features: Float[Tensor, "slices width rows columns"],
        label: Int[Tensor, "slices height width"],
        names: Sequence[str],
    ) -> Prototypes:
        """Of one labelled case. A cell counts for a class by the share of its pixels that the label gives it.

        Raises:
            InputError: another number of slices in the label.
        """
        if label.dim() != 3 or len(label) != len(features):
            raise InputError(
                f"A label of shape {tuple(label.shape)} for {len(features)} slices of features, expected (slices, "
                "height, width)."
            )
        grid = (features.shape[2], features.shape[3])
        tokens = features.movedim(1, -1).flatten(0, -2).double()
        shares = [F.adaptive_avg_pool2d((label == c + 1).double(), grid).flatten() for c in range(len(names))]
        weight = torch.stack(shares)
        return cls(tuple(names), weight @ tokens, weight.sum(dim=1))

    @classmethod
    def fit(
        cls,
        cases: Iterable[
            tuple[Float[Tensor, "slices width rows columns"], Int[Tensor, "slices height width"]]
        ],
        names: Sequence[str],
    ) -> Prototypes:
        """Over labelled cases, one at a time.

        Raises:
            InputError: no case.
        """
        total: Prototypes | None = None
        for features, label in cases:
            found = cls.of(features, label, names)
            total = found if total is None else total + found
        if total is None:
            raise InputError("Prototypes of no case, expected at least one labelled case.")
        return total

    def __add__(self, other: Prototypes) -> Prototypes:
        """Of the cases of both."""
        if (self.names, self.sums.shape) != (other.names, other.sums.shape):
            raise InputError(
                f"Prototypes of {self.names}, {tuple(self.sums.shape)} and of {other.names}, "
                f"{tuple(other.sums.shape)} do not add up; use one extractor and one list of classes."
            )
        return replace(self, sums=self.sums + other.sums, weights=self.weights + other.weights)

    def maps(
        self, features: Float[Tensor, "slices width rows columns"]
    ) -> tuple[Float[Tensor, "classes slices rows columns"], Bool[Tensor, "classes slices"]]:
        """Cosine of every cell's feature vector and each class's mean, in [-1, 1].

        A class that no training case had is present nowhere; its map is zero.

        Raises:
            InputError: features of another width.
        """
        if features.shape[1] != self.sums.shape[1]:
            raise InputError(
                f"Features of width {features.shape[1]}, expected {self.sums.shape[1]}; use the extractor that the "
                "prototypes were fitted with."
            )
        directions = F.normalize(self.sums, dim=1, eps=SMALLEST_NORM).to(features)
        unit = F.normalize(features, dim=1, eps=SMALLEST_NORM)
        maps = torch.einsum("skrc,nk->nsrc", unit, directions).clamp(-1, 1)
        seen = (self.weights > 0).to(features.device)
        return maps, seen[:, None].expand(-1, len(features)).clone()

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays, `sums` and `weights`; the names go elsewhere."""
        return {"sums": self.sums.cpu().numpy(), "weights": self.weights.cpu().numpy()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> Prototypes:
        """The inverse of `to_arrays`.

        Raises:
            InputError: arrays that are missing or do not fit the names.
        """
        sums, weights = arrays.get("sums"), arrays.get("weights")
        if sums is None or weights is None or sums.ndim != 2 or not len(sums) == len(weights) == len(names):
            shapes = {name: array.shape for name, array in arrays.items()}
            raise InputError(
                f"Prototypes from arrays {shapes}, expected sums (classes, width) and weights (classes) for "
                f"{len(names)} classes."
            )
        return cls(tuple(names), torch.from_numpy(sums).double(), torch.from_numpy(weights).double())


def _all_present(classes: int, features: Tensor) -> Tensor:
    return torch.ones(classes, len(features), dtype=torch.bool, device=features.device)
