"""SegWithU: uncertainty as the energy of learned rank-1 perturbations of the logits, in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...types import Batch, Kind
from .config import PerturbationHeadConfig
from .fit import fit_head, make_head
from .head import PerturbationHead

__all__ = ["METHOD", "PerturbationHead", "PerturbationHeadConfig"]


def build(config: PerturbationHeadConfig, segmenter: Segmenter) -> Method:
    """A method of the right structure with fresh weights, for `load_state_dict`."""
    return _method(config, segmenter, make_head(config, segmenter).requires_grad_(False).eval())


def fit(
    config: PerturbationHeadConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """See `sfumato.interfaces.FitFunction`."""
    return _method(config, segmenter, fit_head(config, segmenter, fitting, calibration, context))


def _method(config: PerturbationHeadConfig, segmenter: Segmenter, head: PerturbationHead) -> Method:
    maps = METHOD.maps if config.aleatoric else tuple(k for k in METHOD.maps if k is not Kind.ALEATORIC)
    return Method(replace(METHOD, maps=maps, scores=maps), config, segmenter, head)


_KINDS = (Kind.EPISTEMIC, Kind.ALEATORIC, Kind.RANKING, Kind.ERROR)

METHOD = MethodSpec(
    name="perturbation_head",
    title="SegWithU: learned rank-1 perturbations of the logits (one forward pass)",
    paper="SegWithU: Uncertainty as Perturbation Energy for Single-Forward-Pass Risk-Aware Medical Image "
    "Segmentation, arXiv 2604.15271",
    maps=_KINDS,
    scores=_KINDS,
    ranks_by=Kind.ERROR,
    config=PerturbationHeadConfig,
    tiny=PerturbationHeadConfig(
        width=8, probes=4, hidden=8, epochs=8, folds=0, learning_rate=5e-3, pairs=4096
    ),
    build=build,
    fit=fit,
)
