"""Deep ensemble: several networks of the same task, and where they disagree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import ConfigError
from ...heads.passes import KINDS, PassesEstimator
from ...heads.requirements import need_frozen
from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...types import Batch, Kind
from .members import Members

__all__ = ["METHOD", "DeepEnsembleConfig"]


@dataclass(frozen=True)
class DeepEnsembleConfig:
    """Who is a member.

    Args:
        with_segmenter: count the segmenter itself; its pass is made anyway.
    """

    with_segmenter: bool = True


def build(config: DeepEnsembleConfig, segmenter: Segmenter, networks: Sequence[Segmenter] = ()) -> Method:
    """There is nothing to load but the members.

    Raises:
        ConfigError: no members, or some of another task.
    """
    if not networks:
        raise ConfigError(
            "deep_ensemble got no further networks, expected at least one; name folders with --members, or pass "
            "FitContext(networks=...)."
        )
    frozen = need_frozen(segmenter, "deep_ensemble", "shares its pass")
    source = Members(frozen, networks, config.with_segmenter)
    return Method(METHOD, config, segmenter, PassesEstimator(source).eval(), tuple(networks))


def fit(
    config: DeepEnsembleConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """Nothing is fitted; the members come with the context."""
    method = build(config, segmenter, context.networks)
    assert isinstance(method.estimator, PassesEstimator)
    context.say(f"{method.estimator.source.sample_count} distinct members")
    return method


METHOD = MethodSpec(
    name="deep_ensemble",
    title="Deep ensemble: several networks of the same task",
    paper="Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017, arXiv 1612.01474",
    maps=KINDS,
    scores=KINDS,
    ranks_by=Kind.ERROR,
    config=DeepEnsembleConfig,
    tiny=DeepEnsembleConfig(),
    build=build,
    fit=fit,
    fits=False,
    passes="M",
    networks=1,
)
