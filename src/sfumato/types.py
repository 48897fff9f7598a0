"""The values that travel between segmenters, estimators and the pipeline: frozen, tensors only.

Axis order is always (batch, channels or classes, *grid), where *grid is (H, W) for images and (D, H, W) for
volumes. Uncertainty points one way: higher means more likely wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Kind(StrEnum):
    """What an uncertainty map or score speaks about."""

    PREDICTIVE = "predictive"
    """Entropy of the predicted probability, nats."""
    ALEATORIC = "aleatoric"
    """Ambiguity in the data."""
    EPISTEMIC = "epistemic"
    """The model's ignorance."""
    PROMPT = "prompt"
    """What a better prompt would fix."""
    TASK = "task"
    """What a clearer task would fix."""
    RANKING = "ranking"
    """Orders mistakes; only the order means something."""
    ERROR = "error"
    """Probability of being wrong (a voxel), expected 1 - Dice (a case); in [0, 1]."""


class Link(StrEnum):
    """How logits become probabilities."""

    SOFTMAX = "softmax"
    """Over the classes."""
    SIGMOID = "sigmoid"
    """One foreground logit; background is its complement."""


MISSING = {"", "nan", "none", "null", "n/a", "na", "#n/a", "unknown"}
"""What stands in tables where nothing was written, without a full stop and in lower case."""


def is_missing(sentence: str | None) -> bool:
    """Whether a sentence says nothing: none at all, or a word that says so.

    Example:
        >>> is_missing(" Unknown. "), is_missing("nan"), is_missing(None), is_missing("no polyp")
        (True, True, True, False)
    """
    return sentence is None or sentence.strip().rstrip(".").lower() in MISSING


@dataclass(frozen=True)
class TextPrompt:
    """One sentence per row."""

    sentences: tuple[str, ...]

    def __getitem__(self, rows: slice) -> TextPrompt:
        """Some rows."""
        return TextPrompt(self.sentences[rows])


@dataclass(frozen=True)
class PointPrompt:
    """Clicks: coordinates (batch, n, axes) in voxels and signs (batch, n), 1 foreground and 0 background."""

    coordinates: Float[Tensor, "batch points axes"]
    signs: Int[Tensor, "batch points"]

    def __getitem__(self, rows: slice) -> PointPrompt:
        """Some rows."""
        return PointPrompt(self.coordinates[rows], self.signs[rows])


@dataclass(frozen=True)
class BoxPrompt:
    """Boxes (batch, 2, axes): the two opposite corners in voxels."""

    corners: Float[Tensor, "batch 2 axes"]

    def __getitem__(self, rows: slice) -> BoxPrompt:
        """Some rows."""
        return BoxPrompt(self.corners[rows])


@dataclass(frozen=True)
class SpatialPrompt:
    """Clicks, a box and a mask in any combination, one prompt per row, for networks that look at planes.

    A pixel's coordinates are those of its centre, so the first pixel is at (0, 0).

    Args:
        coordinates: clicks (prompts, points, 2), (row, column) in pixels; there may be no points at all.
        signs: (prompts, points): 1 foreground, 0 background, -1 no click, for rows with fewer clicks than others.
        corners: boxes (prompts, 2, 2), two opposite corners; NaN in rows without a box. None: no box anywhere.
        mask: logits (prompts, rows, columns) of an earlier answer on the network's own mask grid; NaN in rows
            without one. None: no mask anywhere.

    Example:
        >>> both = SpatialPrompt.of_points([[(3, 4, 1), (9, 9, 0)], [(5, 5, 1)]])
        >>> both.signs.tolist(), len(both), both[1].coordinates.tolist()
        ([[1, 0], [1, -1]], 2, [[[5.0, 5.0], [0.0, 0.0]]])
    """

    coordinates: Float[Tensor, "prompts points 2"]
    signs: Int[Tensor, "prompts points"]
    corners: Float[Tensor, "prompts 2 2"] | None = None
    mask: Float[Tensor, "prompts rows columns"] | None = None

    def __len__(self) -> int:
        return len(self.coordinates)

    def __getitem__(self, rows: int | slice | Tensor) -> SpatialPrompt:
        """Some rows; a number keeps its row as the only one."""
        kept = slice(rows, rows + 1) if isinstance(rows, int) else rows
        corners = None if self.corners is None else self.corners[kept]
        mask = None if self.mask is None else self.mask[kept]
        return SpatialPrompt(self.coordinates[kept], self.signs[kept], corners, mask)

    @staticmethod
    def of_points(rows: Sequence[Sequence[tuple[float, float, int]]]) -> SpatialPrompt:
        """One prompt per row from clicks (row, column, sign); shorter rows are filled up with no clicks."""
        most = max((len(row) for row in rows), default=0)
        coordinates = torch.zeros(len(rows), most, 2)
        signs = torch.full((len(rows), most), -1)
        for i, row in enumerate(rows):
            for j, (y, x, sign) in enumerate(row):
                coordinates[i, j, 0], coordinates[i, j, 1], signs[i, j] = y, x, sign
        return SpatialPrompt(coordinates, signs)

    @staticmethod
    def of_boxes(corners: Float[Tensor, "prompts 2 2"]) -> SpatialPrompt:
        """One box per row and no clicks."""
        empty = torch.zeros(len(corners), 0, 2)
        return SpatialPrompt(empty, torch.zeros(len(corners), 0, dtype=torch.long), corners.float())


@dataclass(frozen=True)
class Batch:
    """Rows of images, each with at most one prompt.

    Args:
        image: intensities after the segmenter's own normalisation.
        prompt: text, points or boxes, one per row.
        label: class per voxel, -1 where unknown; present only while fitting or scoring.
        index: position of each row's case among the training cases; present only while a network is trained.
    """

    image: Float[Tensor, "batch channels *grid"]
    prompt: TextPrompt | PointPrompt | BoxPrompt | SpatialPrompt | None = None
    label: Int[Tensor, "batch *grid"] | None = None
    index: Int[Tensor, "batch"] | None = None

    def rows(self) -> Iterator[Batch]:
        """Every row by itself with its own prompt, without label.

        Example:
            >>> batch = Batch(torch.zeros(2, 1, 4, 4), TextPrompt(("a disc", "two discs")))
            >>> [row.prompt.sentences for row in batch.rows()]
            [('a disc',), ('two discs',)]
        """
        for number, image in enumerate(self.image.split(1)):
            here = slice(number, number + 1)
            yield Batch(image, None if self.prompt is None else self.prompt[here])


@dataclass(frozen=True)
class Segmentation:
    """What a segmenter made of a batch.

    Args:
        logits: raw, always; (batch, classes, *grid), one class for `Link.SIGMOID`.
        link: how the logits become probabilities.
        features: named taps, (batch, width, *coarse) or (batch, tokens, width).
    """

    logits: Float[Tensor, "batch classes *grid"]
    link: Link
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def full_logits(self) -> Float[Tensor, "batch classes *grid"]:
        """Logits with one entry per class: a lone foreground logit z becomes (0, z), so softmax gives sigmoid(z)."""
        if self.link is Link.SOFTMAX:
            return self.logits
        return torch.cat([torch.zeros_like(self.logits), self.logits], dim=1)

    def probability(self, temperature: Tensor | None = None) -> Float[Tensor, "batch classes *grid"]:
        """Probabilities of all classes, background included.

        Args:
            temperature: (batch, *grid), > 0; divides the logits and never moves a label.

        Example:
            >>> z = torch.tensor([2.0, 1.0, 0.0]).reshape(1, 3, 1, 1)
            >>> [round(p, 4) for p in Segmentation(z, Link.SOFTMAX).probability().flatten().tolist()]
            [0.6652, 0.2447, 0.09]
        """
        logits = self.full_logits()
        return torch.softmax(logits if temperature is None else logits / temperature.unsqueeze(1), dim=1)

    def labels(self) -> Int[Tensor, "batch *grid"]:
        """Arg-max class per voxel, from the raw logits."""
        return self.full_logits().argmax(dim=1)


@dataclass(frozen=True)
class Uncertainty:
    """Maps and scores by kind, finite, higher = more likely wrong.

    Args:
        maps: (batch, *grid) each.
        scores: (batch,) each.
        temperature: (batch, *grid), > 0; recalibrates the probabilities and never moves a label.
        probability: (batch, classes, *grid), where a method's own probability is no tempering of the segmenter's
            (the mean of several passes, a scale per class). Its arg-max may differ; the labels, and so the mistakes,
            stay the segmenter's.
    """

    maps: Mapping[Kind, Float[Tensor, "batch *grid"]] = field(default_factory=dict)
    scores: Mapping[Kind, Float[Tensor, "batch"]] = field(default_factory=dict)
    temperature: Float[Tensor, "batch *grid"] | None = None
    probability: Float[Tensor, "batch classes *grid"] | None = None

    def of(self, segmentation: Segmentation) -> Float[Tensor, "batch classes *grid"]:
        """The method's probability: its own where it has one, else the segmentation's divided by the temperature."""
        if self.probability is not None:
            return self.probability
        return segmentation.probability(self.temperature)


@dataclass(frozen=True)
class Prediction:
    """A segmentation and what is doubtful about it."""

    segmentation: Segmentation
    uncertainty: Uncertainty

    def probability(self) -> Float[Tensor, "batch classes *grid"]:
        """Calibrated probabilities, see `Uncertainty.of`."""
        return self.uncertainty.of(self.segmentation)
