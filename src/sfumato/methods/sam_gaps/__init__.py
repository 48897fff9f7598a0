"""UncertainSAM: from one pass of a promptable network, how good each mask is and what would make it better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...types import Batch, Kind, SpatialPrompt
from .config import SamGapsConfig
from .estimator import Assessment, SamGaps
from .fit import fit_cases, fit_gaps, need_prompted

__all__ = ["METHOD", "Assessment", "SamGaps", "SamGapsConfig", "fit_gaps", "method_of"]


def build(config: SamGapsConfig, segmenter: Segmenter) -> Method:
    """A method of the right structure with fresh weights, for `load_state_dict`."""
    return method_of(SamGaps(config), segmenter)


def fit(
    config: SamGapsConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """See `sfumato.interfaces.FitFunction`; `context.networks` are the further networks of the ladder."""
    return method_of(fit_cases(config, segmenter, fitting, calibration, context), segmenter)


def method_of(gaps: SamGaps, segmenter: Segmenter) -> Method:
    """Fitted heads and the network they are about, to be saved by `sfumato.save_method`.

    Args:
        gaps: from `fit_gaps`.
        segmenter: a `PromptedSegmenter` on the first network of the ladder.

    Raises:
        InputError: a segmenter that takes no prompts.
    """
    spec = METHOD
    if len(gaps.config.ladder) == 1:
        spec = replace(METHOD, scores=tuple(k for k in METHOD.scores if k is not Kind.EPISTEMIC))
    return Method(spec, gaps.config, need_prompted(segmenter), gaps)


METHOD = MethodSpec(
    name="sam_gaps",
    title="UncertainSAM: expected IoU of every mask, and what a larger network, prompt or choice would add (1 pass)",
    paper="UncertainSAM: Fast and Efficient Uncertainty Quantification of the Segment Anything Model, "
    "arXiv 2505.05049",
    maps=(Kind.PREDICTIVE,),
    scores=(Kind.PREDICTIVE, Kind.ERROR, Kind.EPISTEMIC, Kind.PROMPT, Kind.TASK),
    ranks_by=Kind.ERROR,
    config=SamGapsConfig,
    tiny=SamGapsConfig(
        ladder=("small", "large"),
        hidden=(16,),
        members=1,
        epochs=15,
        batch_size=32,
        learning_rate=5e-3,
        validation=0.0,
        average=0.9,
    ),
    build=build,
    fit=fit,
    spatial_dims=(2,),
    prompt=SpatialPrompt,
    tiling="whole",
)
