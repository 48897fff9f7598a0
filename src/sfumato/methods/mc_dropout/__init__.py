"""Monte Carlo dropout: several passes with dropout on, and where they disagree."""

from __future__ import annotations

from collections.abc import Sequence

from ...heads.passes import KINDS, PassesEstimator
from ...heads.requirements import need_frozen
from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...segmenters.taps import Tap
from ...types import Batch, Kind
from .config import McDropoutConfig
from .source import DropoutPasses

__all__ = ["METHOD", "McDropoutConfig"]


def build(config: McDropoutConfig, segmenter: Segmenter) -> Method:
    """There is nothing to load."""
    source = DropoutPasses(config, need_frozen(segmenter, "mc_dropout", "runs the network with hooks"))
    return Method(METHOD, config, segmenter, PassesEstimator(source).eval())


def fit(
    config: McDropoutConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """Nothing is fitted; says what is dropped."""
    method = build(config, segmenter)
    assert isinstance(method.estimator, PassesEstimator)
    assert isinstance(method.estimator.source, DropoutPasses)
    places = method.estimator.source.places
    taps = [place.text for place in places if isinstance(place, Tap)]
    if taps:
        context.say(
            f"channel dropout at a rate of {config.rate:g} is inserted at {', '.join(taps)}; the network was not "
            "trained with it"
        )
    else:
        context.say(f"{len(places)} dropout layers of the network stay on")
    return method


METHOD = MethodSpec(
    name="mc_dropout",
    title="Monte Carlo dropout: several passes with dropout on",
    paper="Gal and Ghahramani, ICML 2016, arXiv 1506.02142",
    maps=KINDS,
    scores=KINDS,
    ranks_by=Kind.ERROR,
    config=McDropoutConfig,
    tiny=McDropoutConfig(passes=3),
    build=build,
    fit=fit,
    fits=False,
    passes="1 + T",
)
