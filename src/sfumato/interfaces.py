"""The contract between segmenters, estimators and everything that runs them.

A method is a segmenter and an estimator. The estimator works in two steps, so that volumes larger than the network's
window come out right: `respond` runs once per window and reduces what needs the network to voxel maps that may be
averaged where windows overlap; `estimate` is voxel by voxel and runs once, on the blended maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from .measures.aggregate import case_score
from .types import Batch, Kind, Prediction, Segmentation, Uncertainty


@runtime_checkable
class Segmenter(Protocol):
    """A frozen network that segments."""

    def segment(self, batch: Batch) -> Segmentation:
        """Raw logits on the image's grid and the tapped features, without gradient."""
        ...


@runtime_checkable
class Estimator(Protocol):
    """Says where a segmentation may be wrong. Implementations are `torch.nn.Module`s in eval mode."""

    def respond(
        self, batch: Batch, segmentation: Segmentation
    ) -> Mapping[str, Float[Tensor, "batch maps *grid"]]:
        """Per window: voxel maps on the logits' grid, safe to average over overlapping windows; may be empty."""
        ...

    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """Voxel by voxel: maps from the logits and from `segmentation.features`, which hold the responses."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything fitted, as tensors."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """The inverse of `state_dict`."""
        ...


@runtime_checkable
class ScoresCases(Protocol):
    """An estimator with case scores of its own, beside those that follow from its maps.

    Sums of the pieces of a grid add up to the sums of the whole, so a case is scored while it is computed.
    """

    def case_sums(self, batch: Batch, segmentation: Segmentation) -> Float[Tensor, "batch sums"]:
        """Float64 sums over voxels of the responses in `segmentation.features`."""
        ...

    def case_scores(self, sums: Float[Tensor, "batch sums"]) -> Mapping[Kind, Float[Tensor, "batch"]]:
        """Scores from the sums of a whole case; they take the place of those that follow from the maps."""
        ...


@runtime_checkable
class ScoresGrids(Protocol):
    """An estimator with case scores that need the whole grid at once, beside those that follow from its maps."""

    def grid_scores(self, batch: Batch, segmentation: Segmentation) -> Mapping[Kind, Float[Tensor, "batch"]]:
        """Scores from the blended logits of whole cases, without features; they take the place of the others."""
        ...


@dataclass(frozen=True)
class Method:
    """A ready method: nothing about it is half built.

    Args:
        spec: what it is and what it fills.
        config: the settings it was built with, an instance of `spec.config`.
        segmenter: the frozen network.
        estimator: the fitted estimator.
        networks: further frozen networks of the same task that the estimator runs, such as an ensemble's members.
    """

    spec: MethodSpec
    config: Any
    segmenter: Segmenter
    estimator: Estimator
    networks: tuple[Segmenter, ...] = ()

    @property
    def name(self) -> str:
        """The method's folder name."""
        return self.spec.name

    def predict(self, batch: Batch) -> Prediction:
        """Segment and estimate a batch that fits the network in one piece.

        Volumes on disk go through `sfumato.pipeline`, which does the same by windows.
        """
        segmentation = self.segmenter.segment(batch)
        responses = self.estimator.respond(batch, segmentation)
        reduced = replace(segmentation, features=dict(responses))
        uncertainty = self.estimator.estimate(batch, reduced)
        labels = segmentation.labels()
        scores = {
            kind: case_score(kind, m, labels)
            for kind, m in uncertainty.maps.items()
            if kind in self.spec.scores
        }
        if isinstance(self.estimator, ScoresCases):
            scores |= self.estimator.case_scores(self.estimator.case_sums(batch, reduced))
        if isinstance(self.estimator, ScoresGrids):
            scores |= self.estimator.grid_scores(batch, replace(segmentation, features={}))
        return Prediction(segmentation, replace(uncertainty, scores={**scores, **uncertainty.scores}))


@dataclass(frozen=True)
class FitContext:
    """What a fit may use besides its cases.

    Args:
        folder: for checkpoints and logs, resumed when they exist; None keeps nothing.
        seed: of everything random.
        device: `auto`, `cpu` or `cuda`.
        say: receives one line for the reader.
        networks: further frozen networks of the same task, for methods that run several.
    """

    folder: Path | None = None
    seed: int = 0
    device: str = "auto"
    say: Callable[[str], None] = lambda line: None
    networks: tuple[Segmenter, ...] = ()


class FitFunction(Protocol):
    """`fit(config, segmenter, fitting, calibration, context) -> Method`.

    `fitting` are the labelled cases that the estimator learns from, `calibration` others, which neither the
    segmenter nor the estimator has seen, for everything that turns a score into a probability or a decision.
    Each case is a Batch that fits the network in one piece; label -1 marks voxels that do not count.
    """

    def __call__(
        self,
        config: Any,
        segmenter: Segmenter,
        fitting: Sequence[Batch],
        calibration: Sequence[Batch],
        context: FitContext,
    ) -> Method:
        """Return a ready method."""
        ...


@dataclass(frozen=True)
class MethodSpec:
    """A method's card: every method folder exports one as `METHOD`.

    Args:
        name: the folder's name.
        title: one line for people.
        paper: where the method comes from.
        maps: kinds of voxel maps it fills.
        scores: kinds of case scores it fills.
        ranks_by: the kind used for selective prediction.
        config: frozen dataclass of its settings, all with defaults.
        tiny: settings small enough for a CPU test of a second.
        build: (config, segmenter) -> a Method with the right structure, whose state is loaded afterwards; a method
            with `networks` takes them as a third argument.
        fit: see `FitFunction`; None when nothing is fitted.
        fits: whether it needs labelled cases.
        passes: forward passes of the segmenter per image, as text (`1`, `T`).
        spatial_dims: which it supports.
        prompt: which prompt it needs.
        networks: least number of further networks it runs (see `FitContext.networks`); 0 for most.
        tiling: `windows` when `respond` may run window by window, `whole` when it needs the whole image.
    """

    name: str
    title: str
    paper: str
    maps: tuple[Kind, ...]
    scores: tuple[Kind, ...]
    ranks_by: Kind
    config: type
    tiny: Any
    build: Callable[..., Method]
    fit: FitFunction
    fits: bool = True
    passes: str = "1"
    spatial_dims: tuple[int, ...] = (2, 3)
    prompt: type | None = None
    networks: int = 0
    tiling: Literal["windows", "whole"] = "windows"
