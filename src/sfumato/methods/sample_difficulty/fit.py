"""Building and fitting: the range of the scales of all cases; their labels are not looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from ...errors import InputError
from ...heads.labels import IGNORE
from ...heads.requirements import need_frozen
from ...interfaces import FitContext, Segmenter
from ...training.device import pick_device
from ...types import Batch
from .config import SampleDifficultyConfig
from .estimator import SampleDifficulty


def make_difficulty(config: SampleDifficultyConfig, segmenter: Segmenter) -> SampleDifficulty:
    """An estimator without a range, for `load_state_dict`.

    Raises:
        InputError: not a `FrozenSegmenter`.
        ConfigError: settings that do not fit the segmenter.
    """
    frozen = need_frozen(segmenter, "sample_difficulty", "reads its logits")
    return SampleDifficulty(config, frozen.spec).eval()


def fit_difficulty(
    config: SampleDifficultyConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> SampleDifficulty:
    """Store the range of the scales of all cases, fitting and calibration alike.

    Raises:
        InputError: no cases, or none with a scale.
    """
    cases = (*fitting, *calibration)
    if not cases:
        raise InputError("sample_difficulty got no cases, expected some to take the range of scales from.")
    difficulty = make_difficulty(config, segmenter)
    need_frozen(segmenter, "sample_difficulty", "reads its logits").to(pick_device(context.device))
    scales = []
    for case in cases:
        segmentation = segmenter.segment(case)
        scales += [difficulty.scale(row, segmentation.link) for row in _rows(segmentation.logits, case)]
    difficulty.fit(scales)
    if difficulty.reference.flagged:
        context.say(
            f"{difficulty.reference.flagged} of {len(scales)} pieces have no scale and do not enter the range"
        )
    if not difficulty.reference.spread:
        context.say("warning: all pieces have the same scale, so every case will score 0")
    return difficulty


def _rows(logits: Tensor, case: Batch) -> Iterator[Tensor]:
    """Each row's logits without the padding around it, whose label is -1; the classes of a label play no part."""
    for i, row in enumerate(logits):
        if case.label is None or not bool((case.label[i] != IGNORE).any()):
            yield row
            continue
        counts = (case.label[i] != IGNORE).nonzero()
        box = (slice(int(a), int(b) + 1) for a, b in zip(counts.amin(0), counts.amax(0), strict=True))
        yield row[(slice(None), *box)]
