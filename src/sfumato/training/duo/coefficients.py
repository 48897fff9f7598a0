"""How far, and in which direction, the label of a case is to be corrected: one number per case and class.

Over the data set the numbers have mean 0 and mean square 1: what is learnt is which cases differ from the rest, never
that all labels are too large. Positive: the label can only shrink, as if the case were over-segmented; negative: it can
only grow. The numbers start at random and are learnt from the network's own confidence: a reason to look, no proof.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...errors import ConfigError, InputError

FLOOR = 1e-6
"""Added to the variance: equal entries become 0, which corrects nothing, instead of 0 / 0."""
MEMORY = 0.9
"""Share of the running moments that a batch leaves as it was."""


def standardised(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Mean 0 and mean square 1 over all entries, differentiable through both moments; a single entry becomes 0.

    Example:
        >>> [round(v, 6) for v in standardised(torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)).tolist()]
        [-1.069045, -0.534522, 0.0, 1.603567]
    """
    centred = values - values.mean()
    return centred / (centred.square().mean() + FLOOR).sqrt()


class CoefficientTable(nn.Module):
    """One learnt coefficient per training case and class, standardised over the whole table.

    Weight decay would pull all entries together and standardising would blow them up again, so the table is left out
    of it (`undecayed`, see `training.loop`). With two entries the coefficients are +1 and -1 whatever is learnt.

    Args:
        cases: training cases.
        classes: foreground classes.
        seed: of the normal draw that it starts from.
    """

    def __init__(self, cases: int, classes: int, seed: int = 0):
        super().__init__()
        if cases < 1:
            raise ConfigError(
                f"A table of coefficients for {cases} cases, expected the number of training cases; pass samples=..., "
                "or use mode='pooled'."
            )
        start = torch.randn(cases, classes, generator=torch.Generator().manual_seed(seed))
        self.raw = nn.Parameter(start)

    @property
    def undecayed(self) -> tuple[nn.Parameter, ...]:
        """Parameters that weight decay must leave alone."""
        return (self.raw,)

    def forward(self, index: Int[Tensor, "batch"]) -> Float[Tensor, "batch classes"]:
        """Standardised coefficients of the rows' cases.

        Raises:
            InputError: a case that the table does not have.
        """
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self.raw):
            raise InputError(
                f"Cases {index.tolist()}, expected positions below {len(self.raw)}, the number of training cases."
            )
        return standardised(self.raw)[index]


class PooledCoefficients(nn.Module):
    """Coefficients from a map per class, averaged over the grid: a linear function of the image's averaged features.

    They are standardised over batch and classes by running moments, so that a batch of one is not always 0.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("variance", torch.ones(()))

    def forward(self, maps: Float[Tensor, "batch classes *grid"]) -> Float[Tensor, "batch classes"]:
        """Standardised coefficients of the rows; moves the moments in training mode."""
        raw = maps.flatten(2).mean(-1)
        if self.training:
            with torch.no_grad():
                # The deviation is from the mean so far: in a batch of one entry it would be 0 from its own.
                self.variance.lerp_((raw - self.mean).square().mean().to(self.variance.dtype), 1 - MEMORY)
                self.mean.lerp_(raw.mean().to(self.mean.dtype), 1 - MEMORY)
        return (raw - self.mean) / (self.variance + FLOOR).sqrt()


def annotation_bias(
    table: CoefficientTable, cases: Sequence[str], classes: Sequence[str]
) -> Iterator[tuple[str, str, float, str]]:
    """Case, class, standardised coefficient and what its sign did to the label, for every entry.

    Args:
        table: learnt.
        cases: names in the table's order.
        classes: names of the foreground classes.

    Example:
        >>> table = CoefficientTable(2, 1)
        >>> _ = table.raw.data.copy_(torch.tensor([[1.0], [3.0]]))
        >>> [(case, round(value, 3), reading) for case, _, value, reading in annotation_bias(table, "ab", ["organ"])]
        [('a', -1.0, 'label grown'), ('b', 1.0, 'label shrunk')]
    """
    with torch.no_grad():
        values = standardised(table.raw.double()).tolist()
    for case, row in zip(cases, values, strict=True):
        for name, value in zip(classes, row, strict=True):
            yield case, name, value, "label shrunk" if value > 0 else "label grown"


def write_annotation_bias(
    path: Path, table: CoefficientTable, cases: Sequence[str], classes: Sequence[str]
) -> None:
    """`annotation_bias` as a CSV file with the columns case, class, coefficient and reading."""
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("case", "class", "coefficient", "reading"))
        writer.writerows(annotation_bias(table, cases, classes))
    os.replace(part, path)
