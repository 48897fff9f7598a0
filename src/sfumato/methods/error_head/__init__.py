"""Error head: a plain classifier of mistakes on the features and logits of a frozen segmenter."""

from __future__ import annotations

from collections.abc import Sequence

from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...types import Batch, Kind
from .config import ErrorHeadConfig
from .fit import fit_head, make_head
from .head import ErrorHead

__all__ = ["METHOD", "ErrorHead", "ErrorHeadConfig"]


def build(config: ErrorHeadConfig, segmenter: Segmenter) -> Method:
    """A method of the right structure with fresh weights, for `load_state_dict`."""
    return Method(METHOD, config, segmenter, make_head(config, segmenter).requires_grad_(False).eval())


def fit(
    config: ErrorHeadConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """See `sfumato.interfaces.FitFunction`."""
    return Method(METHOD, config, segmenter, fit_head(config, segmenter, fitting, calibration, context))


_KINDS = (Kind.RANKING, Kind.ERROR)

METHOD = MethodSpec(
    name="error_head",
    title="Error head: a plain classifier of mistakes on the frozen network's features",
    paper="the control for perturbation_head, after ConfidNet, Corbière et al., NeurIPS 2019, arXiv 1910.04851",
    maps=_KINDS,
    scores=_KINDS,
    ranks_by=Kind.ERROR,
    config=ErrorHeadConfig,
    tiny=ErrorHeadConfig(width=8, hidden=8, epochs=8, folds=0, learning_rate=5e-3),
    build=build,
    fit=fit,
)
