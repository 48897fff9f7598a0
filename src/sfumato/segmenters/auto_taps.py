"""Which features to tap when nobody says: found by one dry run, in the order of execution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .taps import ALWAYS, INPUT, first_tensor, given_arguments

COARSER_TAPS = 2
"""How many resolutions below the image's are tapped, as in SegWithU's experiments."""


@dataclass(frozen=True)
class TapRecord:
    """One tensor seen during a dry run: where, in which order, with how many channels, on which grid."""

    name: str
    order: int
    channels: int
    grid: tuple[int, ...]


def explore(module: nn.Module, image: Tensor) -> list[TapRecord]:
    """Run once, without gradient, and list every tensor shaped (batch, channels, *grid) in the order of
    execution."""
    records: list[TapRecord] = []

    def note(name: str, value: object) -> None:
        tensor = first_tensor(value)
        if tensor is not None and tensor.dim() == image.dim() and len(tensor) == len(image):
            records.append(TapRecord(name, len(records), tensor.shape[1], tuple(tensor.shape[2:])))

    handles = []
    try:
        for name, child in module.named_modules():
            if name:
                before = lambda _, args, kwargs, name=name: note(name + INPUT, given_arguments(args, kwargs))
                handles.append(child.register_forward_pre_hook(before, with_kwargs=True))
                handles.append(child.register_forward_hook(lambda _, args, out, name=name: note(name, out)))
        with torch.no_grad():
            module(image)
    finally:
        for handle in handles:
            handle.remove()
    return records


def choose_taps(module: nn.Module, image: Tensor, logit_channels: int) -> tuple[str, ...]:
    """The classifier's input and, walking back from it, the last features at two coarser resolutions;
    coarsest first.

    The classifier is the last convolution that returns as many channels as there are logits. Where its input
    is not on the image's grid (it is a transposed convolution, or the logits are upsampled), the logits
    themselves are the finest tap. Networks of one resolution (MeshNet, say) give the classifier's input
    alone; networks whose submodules cannot be hooked (TorchScript, a plain function) give `image` and
    `logits`.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return ALWAYS
    records = explore(module, image)
    grid = tuple(image.shape[2:])
    finest = _classifier_input(module, records, grid, logit_channels)
    full = finest is not None and finest.grid == grid
    earlier = [r for r in records[: finest.order if finest else None] if not r.name.endswith(INPUT)]
    coarser = _walk_back(earlier, grid, logit_channels)
    last = finest.name if finest is not None and full else "logits"
    return (*coarser, last) if coarser or full else ALWAYS


def _classifier_input(
    module: nn.Module, records: list[TapRecord], grid: tuple[int, ...], logit_channels: int
) -> TapRecord | None:
    outputs = [r for r in records if not r.name.endswith(INPUT)]
    classifiers = [r for r in outputs if r.channels == logit_channels and _convolves(module, r.name)]
    inputs = [r for c in classifiers for r in records[: c.order] if r.name == c.name + INPUT]
    if not inputs:
        return None
    # Some networks (V-Net) mix the classes once more after the classifier: step back if what comes in is
    # richer.
    before = inputs[-2] if len(inputs) > 1 else inputs[-1]
    narrow = inputs[-1].channels == logit_channels and inputs[-1].grid == grid
    return before if narrow and before.grid == grid and before.channels > logit_channels else inputs[-1]


def _convolves(module: nn.Module, name: str) -> bool:
    return isinstance(module.get_submodule(name), nn.modules.conv._ConvNd)


def _walk_back(records: list[TapRecord], grid: tuple[int, ...], logit_channels: int) -> list[str]:
    """Names of the last features on up to two coarser grids, coarsest first."""
    names: list[str] = []
    for _ in range(COARSER_TAPS):
        last = next((r for r in reversed(records) if r.channels > 1 and _coarsens(r.grid, grid)), None)
        if last is None:
            break
        grid, records = last.grid, records[: records.index(last) + 1]
        # Tensors as narrow as the logits are usually heads of deep supervision. A block fires after the
        # layers inside it, so the last record is the outermost.
        here = [r for r in records if r.grid == grid and r.channels > 1]
        names.insert(0, ([r for r in here if r.channels > logit_channels] or here)[-1].name)
    return names


def _coarsens(grid: tuple[int, ...], full: tuple[int, ...]) -> bool:
    """Whether a grid is another, divided; channels-last tensors hardly ever look like it."""
    return grid != full and min(grid) > 1 and all(f % g == 0 for f, g in zip(full, grid, strict=True))
