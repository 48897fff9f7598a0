"""The estimator: probes on fused features, and the maps that follow from them and the logits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...errors import InputError, TapError
from ...heads.error_table import ErrorTable
from ...heads.fusion import CONVOLUTION, make_fusion, resize
from ...heads.tapped import every_voxel, pointwise, tapped_features
from ...measures.entropy import entropy, label_margin, log_doubt, margin
from ...types import Batch, Kind, Segmentation, Uncertainty
from . import maps as m
from .combiner import LearnedCombiner
from .config import PerturbationHeadConfig
from .patterns import make_patterns

CHUNK = 1 << 15
"""Voxels computed at a time while predicting: small enough to stay in the processor's cache."""


@dataclass(frozen=True)
class HeadMaps:
    """All maps of the method; (batch, voxels), `delta` (batch, classes, voxels)."""

    epistemic: Tensor
    residual: Tensor
    aleatoric: Tensor | None
    calibration: Tensor
    temperature: Tensor
    ranking: Tensor
    anchor: Tensor
    weight: Tensor
    margin: Tensor
    entropy: Tensor
    delta: Tensor


def _fill_class_scaling(module: nn.Module, state: dict[str, Tensor], prefix: str, *rest: object) -> None:
    """Heads saved before there was a scale per class have none: 1 and 0."""
    for name in ("class_scale", "class_bias"):
        state.setdefault(prefix + name, getattr(module, name).clone())


class PerturbationHead(nn.Module):
    """SegWithU's head on the taps of a frozen segmenter.

    Args:
        config: its settings.
        widths: channels by tap.
        classes: of the full logits, background included.
        dims: 2 or 3.

    Example:
        >>> head = PerturbationHead(PerturbationHeadConfig.paper(), {"a": 256, "b": 128, "c": 32}, classes=4, dims=3)
        >>> sum(p.numel() for p in head.parameters())
        124368
    """

    patterns: Tensor
    global_temperature: Tensor
    class_scale: Tensor
    class_bias: Tensor

    def __init__(self, config: PerturbationHeadConfig, widths: Mapping[str, int], classes: int, dims: int):
        super().__init__()
        self.config = config
        self.taps = tuple(widths)
        self.fusion = make_fusion(config.fusion, list(widths.values()), config.width, dims)
        width = _finest_width(widths) if config.fusion == "none" else config.width
        self.probes = CONVOLUTION[dims](width, config.probes, 1, bias=False)
        self.readout = nn.Linear(config.probes, classes, bias=False)
        self.raw_scale = nn.Parameter(torch.full((config.probes,), math.log(math.expm1(m.INITIAL_SCALE))))
        self.aleatoric = CONVOLUTION[dims](width, 1, 1) if config.aleatoric else None
        self.calibration = nn.Linear(3 if config.aleatoric else 2, 1)
        self.ranking_gain = nn.Parameter(torch.tensor(1.0))
        self.ranking_extra = nn.Parameter(torch.tensor(0.0))
        # Every ranking loss ignores a shift: its gradient is rounding noise, which Adam would turn into drift.
        self.ranking_shift = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        self.combiner = (
            LearnedCombiner(config.probes, config.hidden) if config.combiner == "learned" else None
        )
        self.logistic = nn.Parameter(torch.tensor([1.0, 0.0])) if config.plain > 0 else None
        self.error_table = ErrorTable()
        self.register_buffer("patterns", make_patterns(config.patterns, config.probes))
        self.register_buffer("global_temperature", torch.tensor(1.0))
        self.register_buffer("class_scale", torch.ones(classes))
        self.register_buffer("class_bias", torch.zeros(classes))
        self.register_load_state_dict_pre_hook(_fill_class_scaling)

    @torch.no_grad()
    def respond(
        self, batch: Batch, segmentation: Segmentation
    ) -> dict[str, Float[Tensor, "batch maps *grid"]]:
        """Probe responses v = U f and the aleatoric branch before its softplus: all linear in the fused feature."""
        return self.responses(segmentation)

    def responses(self, segmentation: Segmentation) -> dict[str, Float[Tensor, "batch maps *grid"]]:
        """As `respond`, with gradients.

        Raises:
            TapError: a tap is missing or has no grid.
        """
        grid = tuple(segmentation.logits.shape[2:])
        fused = resize(self.fusion(tapped_features(segmentation, self.taps, self.raw_scale.dtype)), grid)
        found = {"probes": every_voxel(self.probes, fused)}
        if self.aleatoric is not None:
            found["aleatoric"] = every_voxel(self.aleatoric, fused)
        return found

    @torch.no_grad()
    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """All maps from the logits and the (blended) responses, a piece of the grid at a time.

        Raises:
            InputError: the responses are not there.
        """
        if "probes" not in segmentation.features:
            raise InputError(
                "The segmentation carries no probe responses, expected those of respond(); call it first."
            )
        logits = segmentation.full_logits()
        shape = (logits.shape[0], *logits.shape[2:])
        columns = [logits.flatten(2), segmentation.features["probes"].flatten(2)]
        if self.aleatoric is not None:
            columns.append(segmentation.features["aleatoric"].flatten(2))
        found: dict[str, Tensor] = {}
        for start in range(0, columns[0].shape[2], CHUNK):
            piece = self._piece(*(c[:, :, start : start + CHUNK] for c in columns))
            for name, value in piece.items():
                target = found.setdefault(name, value.new_empty(shape[0], columns[0].shape[2]))
                target[:, start : start + CHUNK] = value
        grids = {name: value.reshape(shape) for name, value in found.items()}
        temperature = grids.pop("temperature")
        return Uncertainty(maps={Kind(k): v for k, v in grids.items()}, temperature=temperature)

    def _piece(self, logits: Tensor, probes: Tensor, aleatoric: Tensor | None = None) -> dict[str, Tensor]:
        maps = self.maps(logits, probes, aleatoric)
        named = {
            Kind.EPISTEMIC.value: maps.epistemic,
            Kind.RANKING.value: maps.ranking,
            Kind.ERROR.value: self.error_table(maps.ranking),
            "temperature": maps.temperature,
        }
        return named if maps.aleatoric is None else named | {Kind.ALEATORIC.value: maps.aleatoric}

    def maps(
        self,
        logits: Float[Tensor, "batch classes voxels"],
        probes: Float[Tensor, "batch probes voxels"],
        aleatoric: Float[Tensor, "batch 1 voxels"] | None = None,
    ) -> HeadMaps:
        """Every map, in float32 whatever comes in and whatever autocast says, with gradients."""
        with torch.autocast(logits.device.type, enabled=False):
            z, v = logits.to(self.raw_scale.dtype), probes.to(self.raw_scale.dtype)
            scales, readout = m.probe_scales(self.raw_scale), self.readout.weight
            delta = m.perturbation(v, readout * scales)
            epi = self._epistemic(z, v, scales, readout)
            res = self._residual(v, delta, scales, readout)
            probability = torch.softmax(z, dim=1)
            gap = margin(probability)
            weight = m.ambiguity(gap, self.config.gamma)
            entropy_n = m.normalised_entropy(probability)
            ale = (
                None
                if self.aleatoric is None or aleatoric is None
                else F.softplus(aleatoric[:, 0].to(z.dtype))
            )
            calibration = self._calibration(epi, res, ale, gap)
            doubt = log_doubt(z) if self.combiner is not None else None
            if self.config.class_scaling:
                gap, weight, entropy_n, doubt = self._class_scaled(z)
            start = m.anchor(epi, res, calibration, entropy_n, weight)
            score = m.ranking(start, weight, self.ranking_gain, self.ranking_shift, self.ranking_extra)
            if self.combiner is not None and doubt is not None:
                lengths = self.probes.weight.flatten(1).norm(dim=1).clamp_min(1e-6)
                score = score + self.combiner(
                    epi, res, calibration, entropy_n, weight, gap, doubt, v / lengths[:, None]
                )
            warmth = m.temperature(calibration, self.global_temperature)
            return HeadMaps(
                epi, res, ale, calibration, warmth, score, start, weight, gap, entropy(probability), delta
            )

    def _class_scaled(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Margin, ambiguity weight, entropy and logarithmic doubt of the segmenter's label, from s z + b per class.

        A network that misses one class more often than it invents it doubts that class's label too little.
        """
        labels = z.argmax(dim=1)
        scaled = self.class_scale[:, None] * z + self.class_bias[:, None]
        probability = torch.softmax(scaled, dim=1)
        gap = label_margin(probability, labels)
        weight = m.ambiguity(gap, self.config.gamma)
        return gap, weight, m.normalised_entropy(probability), log_doubt(scaled, labels)

    def _epistemic(self, z: Tensor, v: Tensor, scales: Tensor, readout: Tensor) -> Tensor:
        if self.config.epistemic == "first_order":
            return m.epistemic_first_order(z, v, scales, readout)
        if torch.is_grad_enabled():  # recomputed in backward: otherwise a softmax per pattern would be kept
            result = checkpoint(m.epistemic, z, v, scales, readout, self.patterns, use_reentrant=False)
            assert isinstance(result, Tensor)
            return result
        return m.epistemic(z, v, scales, readout, self.patterns)

    def _residual(self, v: Tensor, delta: Tensor, scales: Tensor, readout: Tensor) -> Tensor:
        if self.config.residual == "expected":
            return m.expected_residual(v, scales, readout, self.config.centred)
        return m.residual(delta, self.config.centred)

    def _calibration(self, epi: Tensor, res: Tensor, ale: Tensor | None, gap: Tensor) -> Tensor:
        """U_cal = softplus(k . [ln(1 + epi + res), ln(1 + ale), m] + b_k) (spec 4.6)."""
        inputs = (
            [torch.log1p(epi + res), gap] if ale is None else [torch.log1p(epi + res), torch.log1p(ale), gap]
        )
        return F.softplus(pointwise(self.calibration, torch.stack(inputs, dim=1))[:, 0])


def _finest_width(widths: Mapping[str, int]) -> int:
    if len(widths) != 1:
        raise TapError(
            f"fusion='none' takes one tap, the segmenter has {list(widths)}; wrap it with taps=[NAME]."
        )
    return next(iter(widths.values()))
