"""Sample difficulty: how evenly a case's class maps spread over their singular directions (AUV)."""

from __future__ import annotations

from collections.abc import Sequence

from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...types import Batch, Kind
from .config import SampleDifficultyConfig
from .estimator import SampleDifficulty
from .fit import fit_difficulty, make_difficulty

__all__ = ["METHOD", "SampleDifficulty", "SampleDifficultyConfig"]


def build(config: SampleDifficultyConfig, segmenter: Segmenter) -> Method:
    """A method of the right structure, for `load_state_dict`."""
    return Method(METHOD, config, segmenter, make_difficulty(config, segmenter))


def fit(
    config: SampleDifficultyConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """See `sfumato.interfaces.FitFunction`; labels are not needed."""
    return Method(METHOD, config, segmenter, fit_difficulty(config, segmenter, fitting, calibration, context))


METHOD = MethodSpec(
    name="sample_difficulty",
    title="Sample difficulty: how evenly a case's class logits spread over their singular directions",
    paper="Li et al., CVPR 2026, arXiv 2604.10963",
    maps=(Kind.PREDICTIVE,),
    scores=(Kind.ALEATORIC, Kind.PREDICTIVE),
    ranks_by=Kind.ALEATORIC,
    config=SampleDifficultyConfig,
    tiny=SampleDifficultyConfig(),
    build=build,
    fit=fit,
    fits=False,
)
