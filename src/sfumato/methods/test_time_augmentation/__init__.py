"""Test-time augmentation: where the answers to a mirrored, turned or changed image differ."""

from __future__ import annotations

from collections.abc import Sequence

from ...heads.passes import KINDS, PassesEstimator
from ...heads.requirements import need_frozen, need_some
from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...training.device import pick_device
from ...types import Batch, Kind
from .config import TestTimeAugmentationConfig
from .source import AugmentedPasses
from .vetting import vet

__all__ = ["METHOD", "TestTimeAugmentationConfig"]


def build(config: TestTimeAugmentationConfig, segmenter: Segmenter) -> Method:
    """All augmentations are kept until the state is loaded."""
    source = AugmentedPasses(
        config, need_frozen(segmenter, "test_time_augmentation", "runs the network again")
    )
    return Method(METHOD, config, segmenter, PassesEstimator(source).eval())


def fit(
    config: TestTimeAugmentationConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """Drop the augmentations that the network does not take, see `vetting.vet`."""
    need_some(fitting, "test_time_augmentation", "fitting")
    method = build(config, segmenter)
    assert isinstance(method.estimator, PassesEstimator)
    assert isinstance(method.estimator.source, AugmentedPasses)
    method.estimator.source.segmenter.to(pick_device(context.device))
    vet(method.estimator.source, fitting, config.tolerance, context)
    return method


METHOD = MethodSpec(
    name="test_time_augmentation",
    title="Test-time augmentation: mirrored, turned and otherwise changed images",
    paper="Wang et al., Neurocomputing 338, 2019, doi 10.1016/j.neucom.2019.01.103",
    maps=KINDS,
    scores=KINDS,
    ranks_by=Kind.ERROR,
    config=TestTimeAugmentationConfig,
    tiny=TestTimeAugmentationConfig(rotations=(10.0,), gains=(1.1,), shifts=(), gammas=(0.8,), tolerance=0.1),
    build=build,
    fit=fit,
    passes="1 + A",
)
