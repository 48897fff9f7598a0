"""Pure functions that judge segmentations and their uncertainty."""

from .bootstrap import Interval, bootstrap_mean
from .calibration import Reliability, brier, negative_log_likelihood, reliability
from .overlap import dice_per_class
from .regions import REGIONS, region_masks
from .selective import Selective, risk_coverage_curve, selective

__all__ = [
    "REGIONS",
    "Interval",
    "Reliability",
    "Selective",
    "bootstrap_mean",
    "brier",
    "dice_per_class",
    "negative_log_likelihood",
    "region_masks",
    "reliability",
    "risk_coverage_curve",
    "selective",
]
