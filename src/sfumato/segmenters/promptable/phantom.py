"""A promptable segmenter of a few formulas, whose mistakes can be read off the image: for tests and examples.

It takes for the object what is as bright as the clicked place and not too far from it, at three tolerances and three
distances. So it does well on bright discs and badly where the object is large, of two intensities or next to another
of its own brightness. It says of itself that nearly every mask is good; its tokens know better.
"""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ...types import SpatialPrompt
from ..inputs import check_side, check_slices
from .frame import MASK_STRIDE, Frame
from .layouts import PROMPTS_AT_ONCE, check_prompts, decode_by_layout
from .protocol import HYPOTHESES, Decoded, Embedding, PromptableCard

TOKEN_WIDTH = 256
TOLERANCES = 0.08, 0.16, 0.3
"""Differences of intensity up to which a cell still belongs to hypotheses 0, 1 and 2."""
REACHES = 1 / 12, 1 / 6, 1 / 3
"""Distances from a click up to which it still does, in sides of the frame."""
MARGINS = -1.0, 0.0, 1.0
"""Cells by which a hypothesis leaves the box, and logits that it adds to a mask prompt."""
SHARPNESS, STEEPNESS = 40.0, 2.0
"""Logits per unit of intensity and per cell."""
OUTSIDE = -10.0
"""Logit where the frame does not show the plane."""
STATISTICS = 10
"""Numbers per hypothesis that the tokens encode."""


class PhantomPromptable:
    """Answers every prompt with three nested masks and estimates that are over-confident.

    Args:
        side: of the square that it sees, in pixels, a multiple of 4; masks have a quarter of it. A larger one sees
            finer, so two of them make a ladder of a cheap network and a better one.

    Raises:
        ConfigError: another side.

    Example:
        >>> plane = torch.zeros(1, 64, 64)
        >>> plane[:, 20:30, 20:30] = 1
        >>> network = PhantomPromptable()
        >>> decoded = network.decode(network.encode(plane), SpatialPrompt.of_points([[(25, 25, 1)]]))
        >>> tuple(decoded.logits.shape), tuple(decoded.mask_tokens.shape)
        ((1, 3, 32, 32), (1, 4, 256))
        >>> smallest, middle, largest = decoded.masks()[0]
        >>> bool((smallest <= middle).all()), bool((middle <= largest).all())
        (True, True)
    """

    def __init__(self, side: int = 128):
        check_side(side, MASK_STRIDE)
        weights = hashlib.sha256(f"{side} {TOLERANCES} {REACHES}".encode()).hexdigest()
        self.card = PromptableCard("phantom", weights, "sam", side, "Apache-2.0")
        generator = torch.Generator().manual_seed(0)
        own, shared = STATISTICS, 3 * STATISTICS + 4
        self._mask_code = torch.randn(own, TOKEN_WIDTH, generator=generator) / own**0.5
        self._iou_code = torch.randn(shared, TOKEN_WIDTH, generator=generator) / shared**0.5

    def encode(self, plane: Float[Tensor, "channels height width"]) -> Embedding:
        """See `PromptableSegmenter.encode`: mean intensities on the grid of the masks."""
        check_slices(plane[None])
        frame = Frame((plane.shape[-2], plane.shape[-1]), self.card.side)
        square = frame.square(plane, (0.0,) * 3, (1.0,) * 3).mean(dim=1)
        return Embedding({"image": F.avg_pool2d(square, MASK_STRIDE)}, frame, self.card.key)

    def decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        """See `PromptableSegmenter.decode`."""
        check_prompts(prompts, embedding, self.card)
        return decode_by_layout(prompts, lambda rows: self._decode(embedding, rows), PROMPTS_AT_ONCE)

    def _decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        image = embedding.maps["image"][0]
        prompts = _in_cells(prompts, embedding.frame)
        likeness = _likeness(image, _reference(image, prompts))
        logits = torch.minimum(likeness, _extent(image, prompts))
        logits = torch.where(_shown(embedding.frame, image), logits, OUTSIDE)
        numbers = _statistics(image, logits, likeness)
        estimates = 0.8 + 0.1 * numbers[..., 6] + 0.1 * numbers[..., 5].clamp(max=1)
        mask_tokens = numbers @ self._mask_code
        alone = mask_tokens.mean(dim=1, keepdim=True)
        return Decoded(
            logits,
            estimates,
            torch.cat([numbers.flatten(1), _given(prompts)], dim=1) @ self._iou_code,
            torch.cat([alone, mask_tokens], dim=1),
            embedding.frame,
            single_logits=logits.mean(dim=1),
            single_estimates=estimates.mean(dim=1),
        )


def _in_cells(prompts: SpatialPrompt, frame: Frame) -> SpatialPrompt:
    """Coordinates in cells of the mask grid, those of a cell's centre being whole numbers."""

    def cells(places: Tensor) -> Tensor:
        return frame.to_square(places + 0.5) / MASK_STRIDE - 0.5

    corners = None if prompts.corners is None else cells(prompts.corners)
    return SpatialPrompt(cells(prompts.coordinates), prompts.signs, corners, prompts.mask)


def _places(image: Tensor) -> Tensor:
    """(rows, columns, 2): every cell's own coordinates."""
    rows, columns = (torch.arange(n, dtype=torch.float32) for n in image.shape)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def _distance(image: Tensor, prompts: SpatialPrompt, sign: int) -> Tensor:
    """(prompts, rows, columns): cells to the nearest click of a sign; infinite without any."""
    away = (_places(image) - prompts.coordinates[:, :, None, None]).norm(dim=-1)
    away = torch.where((prompts.signs == sign)[:, :, None, None], away, torch.inf)
    nowhere = torch.full((len(prompts), 1, *image.shape), torch.inf)
    return torch.cat([away, nowhere], dim=1).amin(dim=1)


def _inside_box(image: Tensor, prompts: SpatialPrompt) -> Tensor:
    """(prompts, rows, columns): cells to the nearest edge of the box, negative outside."""
    assert prompts.corners is not None
    first, last = prompts.corners[:, 0, None, None], prompts.corners[:, 1, None, None]
    return torch.minimum(_places(image) - first, last - _places(image)).amin(dim=-1) + 0.5


def _reference(image: Tensor, prompts: SpatialPrompt) -> Tensor:
    """(prompts,): intensity of the object, at the clicks, else in the middle of the box, else under the mask."""
    if (prompts.signs == 1).any():
        weights = torch.exp(-_distance(image, prompts, 1).square())
    elif prompts.corners is not None:
        inside = _inside_box(image, prompts).clamp(min=0)
        weights = (inside / inside.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)).square()
    elif prompts.mask is not None:
        weights = prompts.mask.sigmoid()
    else:
        weights = torch.ones(len(prompts), *image.shape)
    return (weights * image).sum(dim=(1, 2)) / weights.sum(dim=(1, 2)).clamp(min=1e-6)


def _likeness(image: Tensor, reference: Tensor) -> Tensor:
    """(prompts, 3, rows, columns): logits by intensity alone."""
    differences = (image - reference[:, None, None]).abs()[:, None]
    return SHARPNESS * (image.new_tensor(TOLERANCES)[:, None, None] - differences)


def _extent(image: Tensor, prompts: SpatialPrompt) -> Tensor:
    """(prompts, 3, rows, columns): logits by place alone, from the box, else from foreground clicks and mask."""
    margins = image.new_tensor(MARGINS)[:, None, None]
    reaches = image.new_tensor(REACHES)[:, None, None] * len(image)
    if prompts.corners is not None:
        extent = STEEPNESS * (_inside_box(image, prompts)[:, None] + margins)
    else:
        extent = STEEPNESS * (reaches - _distance(image, prompts, 1)[:, None])
        if prompts.mask is not None:
            extent = torch.maximum(extent, prompts.mask[:, None] + margins)
        elif not (prompts.signs == 1).any():
            extent = torch.zeros_like(extent) - OUTSIDE + margins
    away = STEEPNESS * (_distance(image, prompts, 0)[:, None] - reaches[0])
    return torch.minimum(extent, away).clamp(min=OUTSIDE)


def _shown(frame: Frame, image: Tensor) -> Tensor:
    """(rows, columns): cells that show some of the plane."""
    return (_places(image) * MASK_STRIDE < torch.tensor(frame.shown)).all(dim=-1)


def _statistics(
    image: Tensor, logits: Tensor, likeness: Tensor
) -> Float[Tensor, "prompts hypotheses numbers"]:
    """What tells a good mask from a bad one: size, intensities in it and around it, how sharply and why it ends."""
    soft = logits.sigmoid()
    around = F.max_pool2d(soft, 5, stride=1, padding=2) - soft
    (inside, spread), (ring, ring_spread) = _moments(image, soft), _moments(image, around)
    area = soft.mean(dim=(2, 3))
    firm = (logits - 1).sigmoid().sum(dim=(2, 3)) / (logits + 1).sigmoid().sum(dim=(2, 3))
    like = likeness.sigmoid()
    # A mask that ends where the image goes on alike was cut off by the prompt and not by the object's edge.
    going_on = (around * like).sum(dim=(2, 3)) / around.sum(dim=(2, 3)).clamp(min=1e-6)
    elsewhere = (soft.sum(dim=(2, 3)) / like.sum(dim=(2, 3)).clamp(min=1e-6)).clamp(max=1)
    largest = area / area.amax(dim=1, keepdim=True).clamp(min=1e-6)
    log_area = (area + 1e-4).log() / 5
    numbers = (
        log_area,
        inside,
        spread,
        ring,
        ring_spread,
        (inside - ring).abs(),
        firm,
        going_on,
        elsewhere,
        largest,
    )
    return torch.stack(numbers, dim=-1)


def _moments(image: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of intensities under weights, each (prompts, 3)."""
    total = weights.sum(dim=(2, 3)).clamp(min=1e-6)
    mean = (weights * image).sum(dim=(2, 3)) / total
    deviations = (image - mean[..., None, None]).square()
    return mean, ((weights * deviations).sum(dim=(2, 3)) / total).sqrt()


def _given(prompts: SpatialPrompt) -> Tensor:
    """(prompts, 4): foreground clicks, background clicks, a box, a mask."""
    ones = torch.ones(len(prompts))
    box, mask = ones * (prompts.corners is not None), ones * (prompts.mask is not None)
    counts = [(prompts.signs == sign).sum(dim=1) / 8 for sign in (1, 0)]
    return torch.stack([*counts, box, mask], dim=1)


assert len(TOLERANCES) == len(REACHES) == len(MARGINS) == HYPOTHESES
