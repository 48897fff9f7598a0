"""Temperature scaling: the segmenter's own softmax, recalibrated by one number or by two per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...heads.labels import label_of
from ...heads.requirements import need_frozen, need_some
from ...heads.temperature import fit_temperature
from ...heads.vector import fit_vector_scaling
from ...heads.voxels import Voxels
from ...interfaces import FitContext, Method, MethodSpec, Segmenter
from ...measures.entropy import entropy, maximum_probability_doubt
from ...measures.passes import label_doubt
from ...training.device import pick_device
from ...types import Batch, Kind, Segmentation, Uncertainty
from .config import TemperatureScalingConfig

__all__ = ["METHOD", "TemperatureScalingConfig"]


class TemperatureScaling(nn.Module):
    """Entropy and chance of error of the recalibrated softmax.

    Args:
        kind: `global` or `vector`.
        classes: background included.
    """

    temperature: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, kind: str, classes: int):
        super().__init__()
        self.kind = kind
        self.register_buffer("temperature", torch.tensor(1.0))
        self.register_buffer("scale", torch.ones(classes))
        self.register_buffer("bias", torch.zeros(classes))

    def respond(self, batch: Batch, segmentation: Segmentation) -> Mapping[str, Tensor]:
        """Nothing but the logits is needed."""
        return {}

    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """PREDICTIVE = H(p), nats; ERROR = 1 - p of the segmenter's label, in [0, 1]; p the recalibrated softmax."""
        if self.kind == "global":
            temperature = torch.full_like(segmentation.logits[:, 0], float(self.temperature))
            probability = segmentation.probability(temperature)
            maps = {Kind.PREDICTIVE: entropy(probability), Kind.ERROR: maximum_probability_doubt(probability)}
            return Uncertainty(maps, temperature=temperature)
        logits = segmentation.full_logits()
        shape = (1, -1, *[1] * (logits.dim() - 2))
        probability = torch.softmax(self.scale.reshape(shape) * logits + self.bias.reshape(shape), dim=1)
        maps = {
            Kind.PREDICTIVE: entropy(probability),
            Kind.ERROR: label_doubt(probability, segmentation.labels()),
        }
        return Uncertainty(maps, probability=probability)


def build(config: TemperatureScalingConfig, segmenter: Segmenter) -> Method:
    """A method that changes nothing yet, for `load_state_dict`."""
    frozen = need_frozen(segmenter, "temperature_scaling", "reads the number of classes")
    estimator = TemperatureScaling(config.kind, len(frozen.spec.classes))
    # A scale per class may prefer another label: what orders mistakes is the doubt in the one that was given.
    spec = METHOD if config.kind == "global" else replace(METHOD, ranks_by=Kind.ERROR)
    return Method(spec, config, segmenter, estimator.eval())


def fit(
    config: TemperatureScalingConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> Method:
    """Fit on fitting and calibration cases together: there is no score that others would have to calibrate."""
    cases = [*fitting, *calibration]
    need_some(cases, "temperature_scaling", "fitting and calibration")
    method = build(config, segmenter)
    estimator, frozen = method.estimator, need_frozen(segmenter, "temperature_scaling", "runs the network")
    assert isinstance(estimator, TemperatureScaling)
    frozen.to(pick_device(context.device))
    seen = Voxels.gather(
        ((frozen.segment(case), label_of(case, i), None, None) for i, case in enumerate(cases)),
        len(cases),
        context.seed,
    )
    if config.kind == "global":
        estimator.temperature.fill_(fit_temperature(seen.logits, seen.labels))
        context.say(f"temperature {float(estimator.temperature):.3f}")
        return method
    scale, bias = fit_vector_scaling(seen.logits, seen.labels)
    estimator.scale.copy_(scale)
    estimator.bias.copy_(bias)
    context.say(
        "scale and bias per class " + ", ".join(f"{s:.3f} {b:+.3f}" for s, b in zip(scale, bias, strict=True))
    )
    return method


_KINDS = (Kind.PREDICTIVE, Kind.ERROR)

METHOD = MethodSpec(
    name="temperature_scaling",
    title="Temperature scaling: the softmax, recalibrated by one number or two per class",
    paper="Guo et al., ICML 2017, arXiv 1706.04599",
    maps=_KINDS,
    scores=_KINDS,
    ranks_by=Kind.PREDICTIVE,
    config=TemperatureScalingConfig,
    tiny=TemperatureScalingConfig(),
    build=build,
    fit=fit,
)
