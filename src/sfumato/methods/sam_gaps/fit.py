"""From prompted cases to fitted heads: every case is asked on every network of the ladder, its label says the truth."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...errors import ConfigError, InputError
from ...heads.requirements import need_cases
from ...interfaces import FitContext, Segmenter
from ...segmenters.promptable.prompted_segmenter import PromptedSegmenter, spatial
from ...types import Batch
from .calibration import fit_iou_calibration
from .coding import MASK_IOU
from .collect import AskedObject, measure
from .config import SamGapsConfig
from .dense import dense_prompt
from .estimator import SamGaps
from .kinds import prompt_kinds
from .records import GapRecords
from .training import check_records, fit_heads


def fit_gaps(
    fitting: GapRecords, calibration: GapRecords, config: SamGapsConfig, context: FitContext
) -> SamGaps:
    """Heads from fitting records, and what their expected IoU is worth from calibration records.

    Args:
        fitting: decodes whose truth is known.
        calibration: others, of groups (pictures, patients) that are not in `fitting`.
        config: see `SamGapsConfig`.
        context: seed, device, folder for checkpoints.

    Raises:
        InputError: no records, or a group on both sides.
        ConfigError: records of another ladder.
    """
    check_records(calibration, config, "calibration")
    groups = [_named_groups(records) for records in (fitting, calibration)]
    both = sorted(set(groups[0]) & set(groups[1]))
    if both:
        raise InputError(
            f"{both[0]} is in the fitting and in the calibration records, expected different pictures or patients; "
            "split them by group."
        )
    standard, bank = fit_heads(fitting, config, context)
    gaps = SamGaps(config, standard, bank).to("cpu")
    told = gaps.outputs(calibration.inputs)[MASK_IOU]
    gaps.calibration = fit_iou_calibration(
        told, calibration.iou, groups[1], level=config.level, threshold=config.threshold, seed=context.seed
    )
    return gaps


def _named_groups(records: GapRecords) -> list[str]:
    """Groups with the name of their data set, as two sets may name theirs alike."""
    return [f"{data_set}/{group}" for data_set, group in zip(records.sets, records.groups, strict=True)]


def fit_cases(
    config: SamGapsConfig,
    segmenter: Segmenter,
    fitting: Sequence[Batch],
    calibration: Sequence[Batch],
    context: FitContext,
) -> SamGaps:
    """Ask every case on every network of the ladder, then `fit_gaps`.

    Args:
        config: its `ladder` names the segmenter and `context.networks`, cheapest first.
        segmenter: a `PromptedSegmenter`.
        fitting: labelled and prompted; what is labelled above 0 is the object that the prompt means.
        calibration: others.
        context: further networks of the ladder, seed, device.

    Raises:
        InputError: no cases, no labels or no prompts, or segmenters that take no prompts.
        ConfigError: another number of networks than names.
    """
    need_cases(fitting, calibration, "sam_gaps")
    ladder = [need_prompted(s) for s in (segmenter, *context.networks)]
    if len(ladder) != len(config.ladder):
        raise ConfigError(
            f"ladder={config.ladder} names {len(config.ladder)} networks, {len(ladder)} were given (the segmenter "
            f"and {len(ladder) - 1} more); name each of them once, cheapest first."
        )
    records = [
        collect_cases(ladder, cases, name, context.seed)
        for cases, name in ((fitting, "fitting"), (calibration, "calibration"))
    ]
    return fit_gaps(records[0], records[1], config, context)


def need_prompted(segmenter: Segmenter) -> PromptedSegmenter:
    """The segmenter, if it takes prompts.

    Raises:
        InputError: it does not.
    """
    if not isinstance(segmenter, PromptedSegmenter):
        raise InputError(
            f"sam_gaps is about networks that take prompts, got a {type(segmenter).__name__}, expected a "
            "PromptedSegmenter; `sfumato sam` runs it on files."
        )
    return segmenter


def collect_cases(
    ladder: Sequence[PromptedSegmenter], cases: Sequence[Batch], name: str, seed: int
) -> GapRecords:
    """Records of every row that has an object; dense prompts are drawn from its label.

    Args:
        ladder: networks, cheapest first.
        cases: labelled and prompted; voxels of unknown label (-1) count as outside of the object.
        name: of these cases, so that groups of two lists are never the same.
        seed: of the dense prompts.
    """
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for i, case in enumerate(cases):
        if case.label is None:
            raise InputError(f"{name} case {i} has no label, expected one that is above 0 on the object.")
        prompts = spatial(case.prompt)
        for row, label in enumerate(case.label):
            mask = (label > 0).cpu()
            if not mask.any():
                continue
            prompt = prompts[row]
            dense = dense_prompt(mask, generator, prompt)
            asked = AskedObject(f"{name}{i}#{row}", mask, prompt, prompt_kinds(prompt), dense)
            embeddings = [s.model.encode(case.image[row]) for s in ladder]
            parts.append(measure([s.model for s in ladder], embeddings, asked, f"{name}{i}", "cases"))
    if not parts:
        raise InputError(
            f"None of the {name} cases has a voxel labelled above 0, expected an object to point at."
        )
    return GapRecords.cat(parts)
