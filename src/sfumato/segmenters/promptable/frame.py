"""The square that a promptable network sees, and where the plane lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..inputs import fitted_sides, normalised, padded, resized, three_channels

MASK_STRIDE = 4
"""Pixels of the frame per pixel of the decoder's masks, in all networks of the family."""


@dataclass(frozen=True)
class Frame:
    """A plane of `sides` pixels, scaled until its longer side is `side`, in the upper left of a square.

    Args:
        sides: height and width of the plane in pixels.
        side: of the square, in pixels of the network's input.
        stretch: scale both sides to `side` and lose the aspect, as SAM 2 was trained, instead of padding.

    Example:
        >>> frame = Frame((288, 384), 1024)
        >>> frame.shown, frame.scale
        ((768, 1024), (2.6666666666666665, 2.6666666666666665))
    """

    sides: tuple[int, int]
    side: int
    stretch: bool = False

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width of the plane inside the square."""
        return (self.side, self.side) if self.stretch else fitted_sides(self.sides, self.side)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the square per pixel of the plane, along rows and columns."""
        return self.shown[0] / self.sides[0], self.shown[1] / self.sides[1]

    def square(
        self,
        plane: Float[Tensor, "channels height width"],
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> Float[Tensor, "1 3 side side"]:
        """The network's input: scaled, normalised (ImageNet's statistics by default), zeros below or to the right.

        Raises:
            InputError: intensities outside of [0, 1], or neither one nor three channels.
        """
        image = resized(three_channels(plane[None]), self.shown)
        image = normalised(image) if mean is None or std is None else normalised(image, mean, std)
        return padded(image, (self.side, self.side))

    def to_square(self, coordinates: Float[Tensor, "*any 2"]) -> Float[Tensor, "*any 2"]:
        """Coordinates (row, column) of the plane as those of the square; as in SAM, without half a pixel's shift."""
        return coordinates * coordinates.new_tensor(self.scale)

    def to_plane(self, maps: Float[Tensor, "*any rows columns"]) -> Float[Tensor, "*any height width"]:
        """Maps of the square (masks, entropies), read bilinearly at the plane's pixel centres."""
        rows = _weights(self.sides[0], self.shown[0], self.side, maps.shape[-2], maps.device)
        columns = _weights(self.sides[1], self.shown[1], self.side, maps.shape[-1], maps.device)
        return rows @ maps.float() @ columns.T


def _weights(pixels: int, shown: int, side: int, cells: int, device: torch.device) -> Tensor:
    """(pixels, cells): how much of each cell of the map lies at each pixel's centre; rows sum to one."""
    centre = (torch.arange(pixels, dtype=torch.float64) + 0.5) * shown / pixels * cells / side - 0.5
    centre = centre.clamp(0, cells - 1)
    low = centre.floor().clamp(max=max(cells - 2, 0)).long()
    share = (centre - low)[:, None]
    weights = torch.zeros(pixels, cells, dtype=torch.float64)
    weights.scatter_(1, low[:, None], 1 - share)
    if cells > 1:
        weights.scatter_(1, low[:, None] + 1, share)
    return weights.float().to(device)
