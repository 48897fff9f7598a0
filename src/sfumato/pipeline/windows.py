"""Sliding windows whose blending is a partition of unity, finished slab by slab.

Only quantities that are linear in the network's last features are blended (logits, responses); everything
non-linear is computed once, from the blended values. Weights are a product of one Gaussian per axis,
normalised per axis before the start, so no count map is kept; planes that no later window touches are handed
on and freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

HALF_LIMIT = 2.0**15
"""Maps with larger values are blended in float32, as float16 ends at 65504."""
Run = Callable[[Tensor], Mapping[str, Tensor]]
"""(batch, channels, *window) -> named (batch, maps, *window); `logits` among them."""


@dataclass(frozen=True)
class WindowPlan:
    """Where the windows of one grid lie.

    Args:
        grid: of the image.
        window: grid of each window.
        starts: per axis, where windows begin; below 0 when the image is smaller than a window.
        weights: per axis, (windows, side): blending weights that sum to 1 at every voxel.
        axis: the axis along which finished slabs are handed on.
        flat: windows are slices of one plane, the network sees them without that axis.
    """

    grid: tuple[int, ...]
    window: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]
    weights: tuple[np.ndarray, ...]
    axis: int
    flat: bool

    @property
    def count(self) -> int:
        """Number of windows."""
        return int(np.prod([len(s) for s in self.starts]))


def plan_windows(
    grid: tuple[int, ...], window: tuple[int, ...], divisor: int | Sequence[int] = 1, overlap: float = 0.5
) -> WindowPlan:
    """Cover a grid with windows.

    Args:
        grid: of the image; one axis more than `window` means slices along the first.
        window: the largest window; along a shorter axis it shrinks to the next multiple of `divisor`.
        divisor: sides of a window must be multiples of it; one number, or one per axis of `window`.
        overlap: least share of a window that its neighbour covers too, from 0 to below 1.

    Raises:
        ConfigError: an overlap out of range.

    Example:
        >>> plan = plan_windows((10, 20), (8, 8), divisor=4)
        >>> plan.starts
        ((0, 2), (0, 4, 8, 12))
    """
    if not 0 <= overlap < 1:
        raise ConfigError(f"overlap={overlap}, expected a number from 0 to below 1.")
    flat = len(window) == len(grid) - 1
    sides = [1] if flat else []
    starts = [tuple(range(grid[0]))] if flat else []
    divisors = [divisor] * len(window) if isinstance(divisor, int) else divisor
    for size, side, multiple in zip(grid[len(sides) :], window, divisors, strict=True):
        side = min(side, -(-size // multiple) * multiple)
        sides.append(side)
        if size <= side:
            starts.append((-((side - size) // 2),))
        else:
            count = int(np.ceil((size - side) / max(1, int(side * (1 - overlap))))) + 1
            starts.append(tuple(np.rint(np.linspace(0, size - side, count)).astype(int).tolist()))
    weights = tuple(_axis_weights(n, w, s) for n, w, s in zip(grid, sides, starts, strict=True))
    axis = 0 if flat else int(np.argmax([n / w for n, w in zip(grid, sides, strict=True)]))
    return WindowPlan(tuple(grid), tuple(sides), tuple(starts), weights, axis, flat)


def _axis_weights(size: int, side: int, starts: tuple[int, ...]) -> np.ndarray:
    centre, sigma = (side - 1) / 2, max(side * 0.125, 0.5)
    bell = np.exp(-0.5 * ((np.arange(side) - centre) / sigma) ** 2)
    low = min(0, starts[0])
    total = np.zeros(max(size, starts[-1] + side) - low)
    for start in starts:
        total[start - low : start - low + side] += bell
    return np.stack([bell / total[s - low : s - low + side] for s in starts]).astype(np.float32)


def blended_slabs(
    image: np.ndarray, plan: WindowPlan, run: Run, window_batch: int = 1, thickness: int | None = None
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Run a network over all windows and yield each plane of the blended result exactly once, in order.

    Planes are kept one by one and dropped as they are handed on, so memory holds the planes that a later window
    touches and nothing else.

    Args:
        image: (channels, *grid) float32.
        plan: where the windows lie.
        run: the network; called with at most `window_batch` windows.
        window_batch: windows per call.
        thickness: most planes handed on at once; all that are finished by default.

    Yields:
        The first plane's position along `plan.axis`, and named maps (maps, *slab). Logits are float32. Other maps
        of several windows are float16 unless they exceed `HALF_LIMIT`: half the memory for an error of at most
        1e-3 of the largest value (root mean square 3e-4, measured at an overlap of one half).
    """
    axis, starts = plan.axis, plan.starts[plan.axis]
    # Slices of a volume do not overlap, so several may share a call.
    group = max(1, window_batch * len(starts) // plan.count) if plan.flat else 1
    planes: dict[int, dict[str, Tensor]] = {}
    for first in range(0, len(starts), group):
        after = min(first + group, len(starts))
        rows = [range(first, after) if a == axis else range(len(s)) for a, s in enumerate(plan.starts)]
        places = list(product(*rows))
        for chunk in (places[i : i + window_batch] for i in range(0, len(places), window_batch)):
            outputs = run(torch.from_numpy(np.stack([_cut(image, plan, place) for place in chunk])))
            for name, values in outputs.items():
                _accumulate(planes, name, values.detach().float().cpu(), plan, chunk)
        stop = plan.grid[axis] if after == len(starts) else starts[after]
        for at in range(max(starts[first], 0), stop, thickness or stop):
            yield at, _stacked(planes, range(at, min(at + (thickness or stop), stop)), 1 + axis)


def _stacked(planes: dict[int, dict[str, Tensor]], positions: range, axis: int) -> dict[str, Tensor]:
    taken = [planes.pop(position) for position in positions]
    joined = {}
    for name in taken[0]:
        kinds = {plane[name].dtype for plane in taken}
        parts = [plane[name] if len(kinds) == 1 else plane[name].float() for plane in taken]
        joined[name] = torch.stack(parts, dim=axis)
    return joined


def _cut(image: np.ndarray, plan: WindowPlan, place: tuple[int, ...]) -> np.ndarray:
    begin = [s[i] for s, i in zip(plan.starts, place, strict=True)]
    inside = tuple(
        slice(max(b, 0), min(b + w, n)) for b, w, n in zip(begin, plan.window, plan.grid, strict=True)
    )
    before = [max(-b, 0) for b in begin]
    pads = [(p, w - p - (i.stop - i.start)) for p, w, i in zip(before, plan.window, inside, strict=True)]
    piece = np.pad(image[(slice(None), *inside)], [(0, 0), *pads])
    return piece[:, 0] if plan.flat else piece


def _accumulate(
    planes: dict[int, dict[str, Tensor]],
    name: str,
    values: Tensor,
    plan: WindowPlan,
    chunk: list[tuple[int, ...]],
) -> None:
    values = values.unsqueeze(2) if plan.flat else values
    small = name != "logits" and plan.count > 1 and float(values.abs().max()) <= HALF_LIMIT
    sides = [n for a, n in enumerate(plan.grid) if a != plan.axis]
    for row, place in zip(values, chunk, strict=True):
        inside, region, weight = [slice(None)], [slice(None)], torch.ones(())
        for a, i in enumerate(place):
            begin, end = plan.starts[a][i], min(plan.starts[a][i] + plan.window[a], plan.grid[a])
            inside.append(slice(max(-begin, 0), end - begin))
            region.append(slice(max(begin, 0), end))
            weight = weight.unsqueeze(-1) * torch.from_numpy(plan.weights[a][i])
        weighted = (row * weight)[tuple(inside)]
        first = region.pop(1 + plan.axis).start
        for offset, plane in enumerate(weighted.unbind(1 + plan.axis)):
            blended = planes.setdefault(first + offset, {})
            if name not in blended:
                kind = torch.float16 if small else torch.float32
                blended[name] = torch.zeros(row.shape[0], *sides, dtype=kind)
            if blended[name].dtype == torch.float16 and not small:
                blended[name] = blended[name].float()
            blended[name][tuple(region)] += plane
