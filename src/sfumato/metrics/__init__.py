"""Pure functions, and counters that add up, that judge segmentations and their uncertainty."""

from .aggregate import AGGREGATIONS
from .bootstrap import Interval, bootstrap_difference, bootstrap_mean, resample_weights, resampled_interval
from .calibration import Reliability, brier, negative_log_likelihood, reliability
from .calibration_state import CalibrationState
from .cases import case_aurc, case_auroc, case_eaurc, spearman
from .filtered import FilteredState
from .histogram import Bounded, ScoreHistogram, StreamedSelective
from .overlap import dice_per_class, hd95_per_class, iou_per_class
from .pooled import common_edges, counts_by_patient, pooled_bootstrap, resampled_areas
from .ranking import RankStability, rank_resamples, rank_stability
from .readers import consensus, generalised_energy_distance, ncc, reader_disagreement
from .regions import ALL_REGIONS, REGIONS, region_masks
from .relative_auc import (
    CorrectionCurve,
    correction_curve,
    relative_auc,
    relative_auc_difference,
    relative_auc_interval,
)
from .selective import Selective, risk_coverage_curve, selective
from .streaming import accumulate

__all__ = [
    "AGGREGATIONS",
    "ALL_REGIONS",
    "REGIONS",
    "Bounded",
    "CalibrationState",
    "CorrectionCurve",
    "FilteredState",
    "Interval",
    "RankStability",
    "Reliability",
    "ScoreHistogram",
    "Selective",
    "StreamedSelective",
    "accumulate",
    "bootstrap_difference",
    "bootstrap_mean",
    "brier",
    "case_auroc",
    "case_aurc",
    "case_eaurc",
    "common_edges",
    "consensus",
    "correction_curve",
    "counts_by_patient",
    "dice_per_class",
    "generalised_energy_distance",
    "hd95_per_class",
    "iou_per_class",
    "ncc",
    "negative_log_likelihood",
    "pooled_bootstrap",
    "rank_resamples",
    "rank_stability",
    "reader_disagreement",
    "region_masks",
    "relative_auc",
    "relative_auc_difference",
    "relative_auc_interval",
    "reliability",
    "resample_weights",
    "resampled_areas",
    "resampled_interval",
    "risk_coverage_curve",
    "selective",
    "spearman",
]
