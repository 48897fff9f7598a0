"""The fitted heads and what they say about a decode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...errors import InputError
from ...measures.entropy import entropy
from ...segmenters.promptable import Decoded
from ...segmenters.promptable.prompted_segmenter import PromptedSegmentation, spatial
from ...types import Batch, Kind, Segmentation, Uncertainty
from .calibration import IouCalibration
from .coding import MASK_IOU, MODEL_GAP, PROMPT_GAP, TASK_GAP
from .collect import describe
from .config import SamGapsConfig
from .entropy import mixture_weights
from .features import Standard, hypothesis_features
from .heads import HeadBank
from .kinds import prompt_kinds
from .records import HypothesisInputs

ROWS = 8192
"""Decodes that are judged at once."""
SCORES = (Kind.ERROR, Kind.EPISTEMIC, Kind.PROMPT, Kind.TASK)
"""Of a case; the response `gaps` holds them in this order, one constant plane each."""


@dataclass(frozen=True)
class Assessment:
    """What is expected of every mask of a decode; one row is one prompt. All on the CPU.

    Args:
        expected_iou: of every hypothesis, calibrated, in [0, 1].
        low: of an interval that holds the true IoU with the chance `SamGapsConfig.level`, also of the chosen mask.
        high: its upper end.
        above: chance that IoU exceeds `SamGapsConfig.threshold`.
        weights: of the hypotheses in a mixture; their sum is 1.
        chosen: the hypothesis that is expected to be best.
        own: the one that the network itself ranks first.
        model_gap: expected gain in IoU from the largest network of the ladder; may be negative.
        prompt_gap: expected gain from a dense prompt; may be negative.
        task_gap: expected gain if the best of the three masks were pointed out; never negative.
    """

    expected_iou: Float[Tensor, "prompts hypotheses"]
    low: Float[Tensor, "prompts hypotheses"]
    high: Float[Tensor, "prompts hypotheses"]
    above: Float[Tensor, "prompts hypotheses"]
    weights: Float[Tensor, "prompts hypotheses"]
    chosen: Int[Tensor, "prompts"]
    own: Int[Tensor, "prompts"]
    model_gap: Float[Tensor, "prompts"]
    prompt_gap: Float[Tensor, "prompts"]
    task_gap: Float[Tensor, "prompts"]


class SamGaps(nn.Module):
    """Standardisation, heads and calibration: everything that is fitted, in one state.

    Args:
        config: see `SamGapsConfig`.
        standard: statistics of the fitting records; None starts with none.
        bank: fitted heads; None starts with fresh ones.
        calibration: of the expected IoU; None starts with one that changes nothing and whose interval is [0, 1].
    """

    def __init__(
        self,
        config: SamGapsConfig,
        standard: Standard | None = None,
        bank: HeadBank | None = None,
        calibration: IouCalibration | None = None,
    ):
        super().__init__()
        self.config = config
        self.standard = standard or Standard(config)
        self.bank = bank or HeadBank(config)
        self.calibration = calibration or IouCalibration(config.level, config.threshold)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def outputs(self, inputs: HypothesisInputs) -> dict[str, Float[Tensor, "rows hypotheses"]]:
        """What every head says, by name, not calibrated: IoUs in (0, 1), gaps in (-gap_range, gap_range).

        Heads that speak about the prompt as a whole were trained on the network's own pick; read them there.

        Raises:
            InputError: decodes of another network.
        """
        device = self.standard.mean.device
        parts = []
        for start in range(0, max(1, len(inputs)), ROWS):
            piece = inputs[slice(start, start + ROWS)]
            features = hypothesis_features(piece, self.config).to(device)
            parts.append(self.bank(self.standard(features, piece.rung.to(device))).cpu())
        found = torch.cat(parts)
        return {name: found[:, :, i] for i, name in enumerate(self.bank.names)}

    def assess(self, decoded: Decoded, kind: str | Sequence[str], rung: int = 0) -> Assessment:
        """What is expected of every mask of a decode.

        Args:
            decoded: one row per prompt, of the network that the heads were fitted on.
            kind: of the prompts, one for all or one per row, names in `PROMPT_KINDS`.
            rung: of the network on its ladder, 0 the cheapest.

        Raises:
            InputError: an unknown kind of prompt, a rung that the ladder does not have, or tokens of another width.
        """
        return self.judge(describe(decoded, kind, rung))

    @torch.no_grad()
    def judge(self, inputs: HypothesisInputs) -> Assessment:
        """What is expected of every mask, from what was kept of a decode."""
        outputs = self.outputs(inputs)
        own, told = inputs.own().cpu(), outputs[MASK_IOU]
        expected = self.calibration.expected(told)
        low, high = self.calibration.interval(told)
        gaps = {n: outputs[n].gather(1, own[:, None])[:, 0] for n in (MODEL_GAP, PROMPT_GAP, TASK_GAP)}
        return Assessment(
            expected,
            low,
            high,
            self.calibration.above(told),
            mixture_weights(expected),
            told.argmax(dim=1),
            own,
            gaps[MODEL_GAP],
            gaps[PROMPT_GAP],
            gaps[TASK_GAP].clamp(min=0),
        )

    def respond(self, batch: Batch, segmentation: Segmentation) -> Mapping[str, Tensor]:
        """What is said about each case, as constant planes.

        Raises:
            InputError: a segmentation that does not come from a `PromptedSegmenter`.
        """
        if not isinstance(segmentation, PromptedSegmentation):
            raise InputError(
                f"sam_gaps looks at what a promptable network answered, got a {type(segmentation).__name__}, "
                "expected the PromptedSegmentation of a PromptedSegmenter."
            )
        kinds = prompt_kinds(spatial(batch.prompt))
        assessed = [self.assess(d, k) for d, k in zip(segmentation.decoded, kinds, strict=True)]
        numbers = torch.stack([_case_numbers(found) for found in assessed]).to(segmentation.logits)
        return {"gaps": numbers[:, :, None, None].expand(-1, -1, *segmentation.logits.shape[2:])}

    def estimate(self, batch: Batch, segmentation: Segmentation) -> Uncertainty:
        """Entropy of the mask that the network itself ranks first, in nats."""
        return Uncertainty({Kind.PREDICTIVE: entropy(segmentation.probability())})

    def case_sums(self, batch: Batch, segmentation: Segmentation) -> Float[Tensor, "batch sums"]:
        """Sums of the constant planes, and how many pixels they are over."""
        planes = segmentation.features["gaps"].flatten(2).double()
        pixels = torch.full_like(planes[:, :1, 0], planes.shape[2])
        return torch.cat([planes.sum(dim=2), pixels], dim=1)

    def case_scores(self, sums: Float[Tensor, "batch sums"]) -> Mapping[Kind, Float[Tensor, "batch"]]:
        """`SCORES`; the model gap is left out where the ladder has one network."""
        means = (sums[:, :-1] / sums[:, -1:]).float()
        kept = [k for k in SCORES if k is not Kind.EPISTEMIC or len(self.config.ladder) > 1]
        return {kind: means[:, SCORES.index(kind)] for kind in kept}


def _case_numbers(found: Assessment) -> Float[Tensor, "scores"]:
    """`SCORES` of one prompt, about the mask that the network itself ranks first."""
    expected = found.expected_iou[0, found.own[0]]
    return torch.stack([1 - dice_of(expected), found.model_gap[0], found.prompt_gap[0], found.task_gap[0]])


def dice_of(iou: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """Dice of a mask of this IoU; of a mean IoU it is a little above the mean Dice, as the curve bends down.

    Example:
        >>> float(dice_of(torch.tensor(0.5)))
        0.6666666865348816
    """
    return 2 * iou / (1 + iou)
