"""How evenly the maps of a case spread over their singular directions: one scale per class, one per case.

Li et al., arXiv 2604.10963. The scale S of a class map, seen as a matrix of slices x pixels, is the normalised entropy
of its squared singular values (`sfumato.measures.spectrum`); a case's scale is the sum over its foreground classes. An
even spread is read as easy, energy in few directions as hard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from ...errors import ConfigError, InputError, UnknownNameError
from ...measures.spectrum import spectral_entropy, spectrum
from .gram import Centre, GramState

AXES = {"D": (0, 1, 2), "H": (1, 0, 2), "W": (2, 0, 1)}
"""Order of the grid's axes under which the named one becomes the rows: D x HW, H x DW, W x DH."""
AGGREGATES = "sum", "mean_present", "min"


@dataclass(frozen=True)
class ClassScale:
    """The scale of one class map.

    Args:
        name: of the class.
        status: see `GramState.status`.
        rows: of the matrix, absent slices included.
        columns: of the matrix.
        rank: r, the number of singular values that the entropy is normalised by: the smaller side of what is present.
        present_rows: slices that were there.
        energy: S from squared singular values, in [0, 1]; NaN when `status` is neither `ok` nor `constant`.
        amplitude: S from the singular values themselves, likewise.
        row_centred: S (energy) of the rows minus their means; NaN, too, where the rows are constant.
        spectrum: eigenvalues of the Gram matrix, descending: every form but the row-centred one follows from them.
    """

    name: str
    status: str
    rows: int
    columns: int
    rank: int
    present_rows: int
    energy: float
    amplitude: float
    row_centred: float
    spectrum: tuple[float, ...]


def scale_of(name: str, state: GramState, centre: Centre = "none") -> ClassScale:
    """The scale of one class from its Gram state, all of whose rows are there.

    Args:
        name: of the class.
        state: of all columns.
        centre: what `energy`, `amplitude` and `spectrum` are taken of.

    Example:
        >>> scale = scale_of("ball", GramState.of(torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0]])))
        >>> [round(v, 6) for v in (scale.energy, scale.amplitude, scale.row_centred)]
        [0.550048, 0.85049, 0.0]
    """
    rows, status = len(state.sums), state.status()
    rank = min(rows, state.columns)
    nan = math.nan
    if status not in ("ok", "constant"):
        return ClassScale(name, status, rows, state.columns, rank, rows, nan, nan, nan, ())
    values = spectrum(state.centred(centre))[:rank]
    row_centred = float(spectral_entropy(spectrum(state.centred("row"))[:rank]))
    energy, amplitude = float(spectral_entropy(values)), float(spectral_entropy(values, "amplitude"))
    found = tuple(values.tolist())
    return ClassScale(name, status, rows, state.columns, rank, rows, energy, amplitude, row_centred, found)


def class_scales(
    maps: Shaped[Tensor, "classes rows height width"],
    names: Sequence[str],
    present: Bool[Tensor, "classes rows"] | None = None,
    axis: str = "D",
    centre: Centre = "none",
) -> list[ClassScale]:
    """The scale of every class of one case.

    Args:
        maps: class maps, such as logits, slice by slice; a picture is one slice.
        names: of the classes.
        present: slices where the class was looked at; the others are left out, not filled. None: all.
        axis: which of D, H, W becomes the matrix's rows. Scales along different axes do not compare; a single slice
            has one row along D, so pictures take H.
        centre: see `GramState.centred`.

    Raises:
        ConfigError: an axis other than D, H, W, or another centring.
        InputError: names or `present` of another length.

    Example:
        >>> maps = torch.eye(4).reshape(1, 4, 2, 2)
        >>> class_scales(maps, ["ball"])[0].energy
        1.0
    """
    if axis not in AXES:
        raise ConfigError(f"axis={axis!r}, expected D, H or W.")
    slices = torch.ones(maps.shape[:2], dtype=torch.bool) if present is None else present.cpu()
    if len(names) != len(maps) or slices.shape != maps.shape[:2]:
        raise InputError(
            f"{len(names)} names and presence of shape {tuple(slices.shape)} for maps of shape {tuple(maps.shape)}, "
            "expected one name per class and one value per class and slice."
        )
    found = []
    for name, volume, there in zip(names, maps, slices, strict=True):
        kept = volume if bool(there.all()) else volume[there.to(volume.device)]
        matrix = kept.permute(AXES[axis]).flatten(1)
        scale = scale_of(name, GramState.of(matrix), centre)
        rows = volume.shape[AXES[axis][0]]
        found.append(replace(scale, rows=rows, present_rows=int(there.sum())))
    return found


def case_scale(
    scales: Sequence[ClassScale], aggregate: str | tuple[str, ...] = "sum", convention: str = "energy"
) -> tuple[float, str]:
    """The scale of a case from those of its foreground classes.

    Args:
        scales: of the foreground classes.
        aggregate: `sum` (the paper; a class that is empty adds 0), `mean_present` (mean over classes that are not
            empty), `min` (over the same), or names of the classes to sum.
        convention: which field counts: `energy`, `amplitude` or `row_centred`.

    Returns:
        The scale, and `ok`; or NaN and the first of `nonfinite`, `single`, `empty` that explains why there is none; or
        0 and `constant` where no class has more than one direction because all maps are constant.

    Raises:
        ConfigError: another aggregate or convention.
        UnknownNameError: a class that is not there.

    Example:
        >>> maps = torch.stack([torch.eye(4), torch.ones(4, 4)]).reshape(2, 4, 2, 2)
        >>> case_scale(class_scales(maps, ["ball", "box"]))
        (1.0, 'ok')
        >>> case_scale(class_scales(maps, ["ball", "box"]), ("box",))
        (0.0, 'constant')
    """
    if convention not in ("energy", "amplitude", "row_centred"):
        raise ConfigError(f"convention={convention!r}, expected energy, amplitude or row_centred.")
    wanted = _wanted(scales, aggregate)
    for status in ("nonfinite", "single"):
        if any(s.status == status for s in wanted):
            return math.nan, status
    there = [s for s in wanted if s.status != "empty"]
    if not there:
        return math.nan, "empty"
    # Rows that are constant have nothing left when centred: as little as a constant map has beside its constant.
    values = [0.0 if math.isnan(v) else v for v in (float(getattr(s, convention)) for s in there)]
    status = "constant" if all(s.status == "constant" for s in there) else "ok"
    if aggregate == "min":
        return min(values), status
    return math.fsum(values) / (len(values) if aggregate == "mean_present" else 1), status


def _wanted(scales: Sequence[ClassScale], aggregate: str | tuple[str, ...]) -> list[ClassScale]:
    if isinstance(aggregate, str):
        if aggregate not in AGGREGATES:
            raise ConfigError(
                f"aggregate={aggregate!r}, expected one of {', '.join(AGGREGATES)}, or names of classes."
            )
        return list(scales)
    named = {s.name: s for s in scales}
    for name in aggregate:
        if name not in named:
            raise UnknownNameError("class", name, named)
    return [named[name] for name in aggregate]
