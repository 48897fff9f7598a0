"""Augmentation that keeps sentences true: no mirror, no turn, no shift, only a little zoom, contrast and brightness.

Few images are soon known by heart, and what is known by heart needs no words. So some images may be hidden: noise takes
their place, and the words are all that is left to go by.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import ConfigError
from ...training.samples import Augmentation

ZOOM = (0.95, 1.2)
"""As the authors zoom, about the image's centre; they do it to a tenth of the images."""
CONTRAST = 0.2
"""Largest relative change of standardised intensities, and of an added constant."""
CHANCE = 0.5


def truthful_augmentation(strength: float = 1.0, image_dropout: float = 0.0) -> Augmentation:
    """Zoom, contrast and brightness, each with a chance of one half.

    Left, right, upper, lower, number and shape stay as they were said; size within the zoom, which is up to a fifth.

    Args:
        strength: scales all ranges; 0 changes nothing.
        image_dropout: share of the images that are hidden.

    Raises:
        ConfigError: a strength that is negative, or above 5, where zoom would reach 1 / 4; a share outside [0, 1].

    Example:
        >>> image, label = np.ones((1, 8, 8), np.float32), np.eye(8, dtype=np.int16)
        >>> same, untouched = truthful_augmentation(0.0)(image, label, seed=3)
        >>> bool((same == image).all()), bool((untouched == label).all())
        (True, True)
    """
    if not 0 <= strength <= 5:
        raise ConfigError(f"augment={strength}, expected a strength from 0 to 5.")
    if not 0 <= image_dropout < 1:
        raise ConfigError(f"image_dropout={image_dropout}, expected a share from 0 to below 1.")

    def augment(image: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(seed)
        zoom, contrast, brightness = generator.uniform(
            (ZOOM[0] - 1, -CONTRAST, -CONTRAST), (ZOOM[1] - 1, CONTRAST, CONTRAST)
        )
        zoomed, changed = strength * (generator.random(2) < CHANCE)
        factor = float(1 + zoomed * zoom)
        image = (1 + changed * contrast) * _zoomed(image, factor, "bilinear") + changed * brightness
        if image_dropout and generator.random() < image_dropout:
            image = generator.standard_normal(image.shape)  # as large as a standardised image
        return image.astype(np.float32), _zoomed(label[None], factor, "nearest")[0].astype(label.dtype)

    return augment


def _zoomed(values: np.ndarray, factor: float, mode: str) -> np.ndarray:
    """(channels, rows, columns) about its centre; where it shrinks, its border is repeated."""
    if factor == 1:
        return values
    planes = torch.from_numpy(values.astype(np.float32)).unsqueeze(0)
    look: Tensor = torch.eye(2, 3).unsqueeze(0) / factor
    places = F.affine_grid(look, list(planes.shape), align_corners=False)
    return F.grid_sample(planes, places, mode, "border", align_corners=False)[0].numpy()
