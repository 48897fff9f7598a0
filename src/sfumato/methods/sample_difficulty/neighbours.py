"""How unlike all others a case looks: its distance to the nearest of a reference in standardised feature space.

What AUV cannot see from one case alone is seen beside others. Every number is taken against its median over the
reference and in units of its spread there, so that a few odd cases in the reference hardly move the ruler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ...errors import ConfigError, InputError

MOST_DEVIATIONS = 10.0
"""Beyond this many spreads a number counts as this far out: one wild number must not decide alone."""
CONSISTENT = 1.4826
"""The median absolute deviation times this is the standard deviation of a normal distribution."""
ROWS_AT_ONCE = 512

Blocks = Sequence[Float[np.ndarray, "cases _"]]
"""Tables of numbers about the same cases; each block weighs as much as any other, whatever its width."""


def descriptor(features: Mapping[str, Tensor]) -> Float[np.ndarray, "numbers"]:
    """Mean and spread of every channel of every map, over the pixels of a slice, then averaged over slices.

    Args:
        features: name -> (slices, width, rows, columns), as an extractor gives them.

    Returns:
        float32, two numbers per channel.

    Example:
        >>> import torch
        >>> descriptor({"stage": torch.ones(3, 2, 4, 4)}).tolist()
        [1.0, 1.0, 0.0, 0.0]
    """
    parts = []
    for maps in features.values():
        flat = maps.flatten(2).double()
        parts += [flat.mean(dim=2).mean(dim=0), flat.std(dim=2, correction=0).mean(dim=0)]
    return np.concatenate([part.cpu().numpy() for part in parts]).astype(np.float32)


@dataclass(frozen=True)
class Ruler:
    """Median and spread of every number over a reference.

    Args:
        middles: per block, (numbers,).
        spreads: per block, (numbers,), > 0.
    """

    middles: tuple[np.ndarray, ...]
    spreads: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, reference: Blocks) -> Ruler:
        """Measure a reference.

        Raises:
            InputError: no case in it, or blocks of different cases.
        """
        counts = {len(block) for block in reference}
        if len(counts) != 1 or 0 in counts:
            raise InputError(f"Blocks of {sorted(counts)} cases, expected the same cases, at least one.")
        middles = tuple(np.median(_shrunk(block), axis=0) for block in reference)
        spreads = tuple(
            _spread(_shrunk(block), middle) for block, middle in zip(reference, middles, strict=True)
        )
        return cls(middles, spreads)

    def standardised(self, blocks: Blocks) -> Float[np.ndarray, "cases numbers"]:
        """All blocks side by side, in spreads from the median, each block divided by the root of its width.

        Raises:
            InputError: blocks of other widths than the reference's.
        """
        if [block.shape[1] for block in blocks] != [len(middle) for middle in self.middles]:
            raise InputError(
                f"Blocks of widths {[b.shape[1] for b in blocks]}, expected {[len(m) for m in self.middles]} as in "
                "the reference; score both with the same extractor."
            )
        scaled = []
        for block, middle, spread in zip(blocks, self.middles, self.spreads, strict=True):
            deviations = np.clip((_shrunk(block) - middle) / spread, -MOST_DEVIATIONS, MOST_DEVIATIONS)
            scaled.append(deviations / np.sqrt(max(1, len(middle)) * len(self.middles)))
        return np.concatenate(scaled, axis=1)


def neighbour_distances(
    cases: Float[np.ndarray, "cases numbers"],
    reference: Float[np.ndarray, "reference numbers"] | None = None,
    neighbours: int = 5,
) -> Float[np.ndarray, "cases"]:
    """Mean Euclidean distance to the nearest cases of the reference; higher = more unlike them.

    Args:
        cases: standardised, see `Ruler`.
        reference: standardised by the same ruler; by default the cases themselves, each without itself.
        neighbours: how many; fewer where the reference is smaller.

    Returns:
        0 for a lone case without a reference.

    Raises:
        ConfigError: fewer than one neighbour.

    Example:
        >>> line = np.array([[0.0], [1.0], [2.0], [9.0]])
        >>> neighbour_distances(line, neighbours=2).tolist()
        [1.5, 1.0, 1.5, 7.5]
    """
    if neighbours < 1:
        raise ConfigError(f"neighbours={neighbours}, expected at least 1.")
    others = cases if reference is None else reference
    found = np.zeros(len(cases))
    for first in range(0, len(cases), ROWS_AT_ONCE):
        distances = np.sqrt(squared_distances(cases[first : first + ROWS_AT_ONCE], others))
        if reference is None:
            rows = np.arange(len(distances))
            distances[rows, first + rows] = np.inf
        count = min(neighbours, distances.shape[1] - (reference is None))
        if count > 0:
            nearest = np.partition(distances, count - 1, axis=1)[:, :count]
            found[first : first + ROWS_AT_ONCE] = nearest.mean(axis=1)
    return found


def squared_distances(
    ones: Float[np.ndarray, "ones numbers"], others: Float[np.ndarray, "others numbers"]
) -> Float[np.ndarray, "ones others"]:
    """Squared Euclidean distances by one matrix product, which is several times faster than pair by pair.

    Example:
        >>> squared_distances(np.array([[0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 3.0]])).tolist()
        [[25.0, 0.0]]
    """
    squares = (ones**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    # Rounding may leave a little less than nothing between equal rows.
    return np.maximum(squares - 2 * (ones @ others.T), 0)


def atypicality(cases: Float[np.ndarray, "cases numbers"]) -> Float[np.ndarray, "cases"]:
    """Mean absolute standardised number: how far a case lies from the middle of the reference, whatever lies near it.

    Where many cases share a fault they are each other's neighbours; this still sees them, as long as they are few
    enough not to be the middle.

    Example:
        >>> atypicality(np.array([[0.0, 0.0], [3.0, -1.0]])).tolist()
        [0.0, 2.0]
    """
    return np.abs(cases).mean(axis=1)


def _shrunk(block: np.ndarray) -> np.ndarray:
    """Signed logarithm: channels of rectified networks have long tails."""
    values = np.asarray(block, np.float64)
    return np.sign(values) * np.log1p(np.abs(values))


def _spread(values: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """Scaled median absolute deviation; the standard deviation where most values are equal, 1 where all are."""
    spread = CONSISTENT * np.median(np.abs(values - middle), axis=0)
    deviation = values.std(axis=0)
    spread = np.where(spread > 1e-6 * np.maximum(1, np.abs(middle)), spread, deviation)
    return np.where(spread > 1e-12, spread, 1.0)
