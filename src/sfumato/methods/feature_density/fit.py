"""Building and fitting: running sums over the fitting cases, then the chance of error."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import InputError
from ...heads.error_table import fit_error_table
from ...heads.labels import label_of
from ...heads.requirements import need_cases, need_frozen
from ...interfaces import FitContext, Segmenter
from ...segmenters.frozen import FrozenSegmenter
from ...training.device import pick_device
from ...types import Batch
from .config import FeatureDensityConfig
from .density import FeatureDensity, chosen_taps
from .distance import ClassGaussians
from .moments import LEAST_VOXELS, Moments


def make_density(config: FeatureDensityConfig, segmenter: Segmenter) -> FeatureDensity:
    """Standard normals for a segmenter's taps, for `load_state_dict`.

    Raises:
        InputError: not a `FrozenSegmenter`, or one that taps nothing.
    """
    frozen = need_frozen(segmenter, "feature_density", "reads tapped features")
    taps = chosen_taps(config, frozen.segment(frozen.blank_batch()).features)
    return FeatureDensity(config, {tap: frozen.widths[tap] for tap in taps}, len(frozen.spec.classes))


def fit_density(
    config: FeatureDensityConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> FeatureDensity:
    """Fit the Gaussians on `fitting` and the chance of error on `calibration`.

    Raises:
        InputError: no cases, or no class with two labelled voxels.
    """
    need_cases(fitting, calibration, "feature_density")
    frozen = need_frozen(segmenter, "feature_density", "reads tapped features")
    density = make_density(config, frozen)
    frozen.to(pick_device(context.device))
    for gaussians, moments in zip(density.gaussians, _moments(density, frozen, fitting), strict=True):
        assert isinstance(gaussians, ClassGaussians)
        _check(moments, frozen, context)
        gaussians.fit(moments, config.shrinkage)
    density.to(pick_device(context.device)).eval()
    fit_error_table(density.error_table, density, frozen, calibration, context.seed)
    return density


def _moments(density: FeatureDensity, segmenter: FrozenSegmenter, cases: Sequence[Batch]) -> list[Moments]:
    """One set of sums per tap, from one pass over the cases."""
    classes = len(segmenter.spec.classes)
    found = [Moments.zeros(classes, segmenter.widths[tap]) for tap in density.taps]
    for index, case in enumerate(cases):
        label, features = label_of(case, index), segmenter.segment(case).features
        for tap, moments in zip(density.taps, found, strict=True):
            moments.add(features[tap], label.to(features[tap].device))
    return found


def _check(moments: Moments, segmenter: FrozenSegmenter, context: FitContext) -> None:
    few = (moments.count < LEAST_VOXELS).tolist()
    if all(few):
        raise InputError(
            "No class has two labelled voxels in the fitting cases, expected some; check the labels for -1."
        )
    missing = [name for name, absent in zip(segmenter.spec.classes, few, strict=True) if absent]
    if missing:
        context.say(
            f"warning: too few voxels of {', '.join(missing)} in the fitting cases; where the segmenter predicts them, "
            "the distance to the nearest other class counts"
        )
