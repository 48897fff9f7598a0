"""Segmentation by a sentence, and where its mask may be wrong or hangs on the words.

The network is in `model`, its training in `training`, how it becomes a segmenter in `segmenter`; this is the doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...errors import InputError
from ...heads.labels import label_of
from ...heads.requirements import need_cases, need_frozen
from ...heads.temperature import fit_temperature
from ...heads.voxels import Voxels
from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...measures.entropy import maximum_probability_doubt
from ...segmenters.frozen import FrozenSegmenter
from ...training.device import pick_device
from ...types import Batch, Kind, Link, Segmentation, TextPrompt
from .doubt import TextDoubt, TextDoubtConfig

__all__ = ["METHOD", "TextDoubtConfig"]


def build(config: TextDoubtConfig, segmenter: Segmenter) -> Method:
    """A method that changes no probability yet, for `load_state_dict` or as it is.

    Raises:
        InputError: a segmenter that reads no sentences.
    """
    frozen = need_frozen(segmenter, "text_guided", "segments with other sentences")
    if frozen.condition is None:
        raise InputError(
            "text_guided needs a segmenter that reads sentences, got one without; train one with `sfumato train "
            "--method text_guided`."
        )
    return Method(METHOD, config, segmenter, TextDoubt(config, frozen).eval())


def fit(
    config: TextDoubtConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """The temperature from the fitting cases, the chance of error from the calibration cases, each with its sentence.

    Raises:
        InputError: no cases, no label, prompts that are no sentences, or a segmenter that reads none.
    """
    need_cases(fitting, calibration, "text_guided")
    for case in (*fitting, *calibration):
        if case.prompt is not None and not isinstance(case.prompt, TextPrompt):
            raise InputError(
                f"A case with a {type(case.prompt).__name__}, expected a TextPrompt or no prompt."
            )
    method = build(config, segmenter)
    estimator, frozen = method.estimator, need_frozen(segmenter, "text_guided", "runs the network")
    assert isinstance(estimator, TextDoubt)
    frozen.to(pick_device(context.device))
    seen = _voxels(frozen, fitting, context.seed)
    estimator.temperature.fill_(fit_temperature(seen.logits, seen.labels))
    context.say(f"temperature {float(estimator.temperature):.3f}")
    seen = _voxels(frozen, calibration, context.seed)
    logits = torch.cat(seen.logits, dim=1).unsqueeze(0) / estimator.temperature
    doubt = maximum_probability_doubt(Segmentation(logits, Link.SOFTMAX).probability())[0]
    estimator.table.fit(doubt, torch.cat(seen.wrong()))
    return method


def _voxels(segmenter: FrozenSegmenter, cases: Sequence[Batch], seed: int) -> Voxels:
    """Labelled voxels of cases, segmented with their sentences."""
    found = ((segmenter.segment(case), label_of(case, i), None, None) for i, case in enumerate(cases))
    return Voxels.gather(found, len(cases), seed)


_KINDS = (Kind.PREDICTIVE, Kind.PROMPT, Kind.ERROR)

METHOD = MethodSpec(
    name="text_guided",
    title="Segmentation by a sentence: calibrated doubt, and what of the mask hangs on the words",
    paper="Das et al., Uncertainty-Aware Vision-Language Segmentation for Medical Imaging, arXiv 2602.14498",
    maps=_KINDS,
    scores=_KINDS,
    ranks_by=Kind.PREDICTIVE,
    config=TextDoubtConfig,
    tiny=TextDoubtConfig(sentences=("object",)),
    build=build,
    fit=fit,
    passes="1 + V",
    spatial_dims=(2,),
    prompt=TextPrompt,
    tiling="whole",
)
