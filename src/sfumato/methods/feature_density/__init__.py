"""Feature density: how far a voxel's features lie from those of its class."""

from __future__ import annotations

from collections.abc import Sequence

from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...types import Batch, Kind
from .config import FeatureDensityConfig
from .density import FeatureDensity
from .fit import fit_density, make_density

__all__ = ["METHOD", "FeatureDensity", "FeatureDensityConfig"]


def build(config: FeatureDensityConfig, segmenter: Segmenter) -> Method:
    """A method of the right structure, for `load_state_dict`."""
    return Method(METHOD, config, segmenter, make_density(config, segmenter).eval())


def fit(
    config: FeatureDensityConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """See `sfumato.interfaces.FitFunction`."""
    return Method(METHOD, config, segmenter, fit_density(config, segmenter, fitting, calibration, context))


_KINDS = (Kind.EPISTEMIC, Kind.RANKING, Kind.ERROR)

METHOD = MethodSpec(
    name="feature_density",
    title="Feature density: Mahalanobis distance of a voxel's features to those of its class",
    paper="Lee et al., NeurIPS 2018, arXiv 1807.03888",
    maps=_KINDS,
    scores=_KINDS,
    ranks_by=Kind.ERROR,
    config=FeatureDensityConfig,
    tiny=FeatureDensityConfig(),
    build=build,
    fit=fit,
)
