"""A few augmentations that medical networks are usually trained with; the transforms are MONAI's."""

from __future__ import annotations

import numpy as np
import torch

from ..errors import MissingExtraError
from .samples import Augmentation


def standard_augmentation(
    spatial_dims: int, mirror_axes: tuple[int, ...] = (), strength: float = 1.0
) -> Augmentation:
    """Rotation, scaling, mirroring, noise, blur, contrast and gamma, each with a moderate probability.

    Args:
        spatial_dims: 2 or 3.
        mirror_axes: grid axes along which mirrored anatomy is plausible.
        strength: scales the ranges of the geometric changes.

    Raises:
        MissingExtraError: MONAI is not installed.
    """
    try:
        from monai import transforms as mt
    except ImportError as error:
        raise MissingExtraError("monai", "train", "augmentation while training") from error
    angles = [strength * (np.pi / 12 if spatial_dims == 3 else np.pi / 6)] * (1 if spatial_dims == 2 else 3)
    zoom = [strength * 0.2] * spatial_dims
    spatial = mt.RandAffined(
        keys=["image", "label"],
        prob=0.6,
        rotate_range=angles,
        scale_range=zoom,
        mode=["bilinear", "nearest"],
        padding_mode=["zeros", "zeros"],
    )
    flips = [mt.RandFlipd(["image", "label"], prob=0.5, spatial_axis=axis) for axis in mirror_axes]
    intensity = [
        mt.RandGaussianNoised(["image"], prob=0.15, std=0.1),
        mt.RandGaussianSmoothd(
            ["image"], sigma_x=(0.3, 0.9), sigma_y=(0.3, 0.9), sigma_z=(0.3, 0.9), prob=0.15
        ),
        mt.RandScaleIntensityd(["image"], factors=0.25, prob=0.3),
        mt.RandShiftIntensityd(["image"], offsets=0.2, prob=0.3),
        mt.RandAdjustContrastd(["image"], prob=0.3, gamma=(0.7, 1.5), retain_stats=True),
    ]
    chain = mt.Compose([spatial, *flips, *intensity])

    def augment(image: np.ndarray, label: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        chain.set_random_state(seed=seed)
        result = chain(
            {"image": torch.from_numpy(image), "label": torch.from_numpy(label[None].astype(np.float32))}
        )
        assert isinstance(result, dict)
        changed = np.asarray(result["image"], dtype=np.float32)
        return changed, np.rint(np.asarray(result["label"][0])).astype(label.dtype)

    return augment
