"""Pure tensor maths of uncertainty: entropy, margin, and the way from a map to a case score."""

from .aggregate import case_score, expected_dice_loss
from .entropy import entropy, margin

__all__ = ["case_score", "entropy", "expected_dice_loss", "margin"]
