"""DUO: training that weighs every class by how it is represented now, and learns which labels to doubt.

Li et al., "Delving Aleatoric Uncertainty in Medical Image Segmentation via Vision Foundation Models", arXiv
2604.10963, "dynamic uncertainty-aware optimisation". Read `loss.py` for the algorithm; `reference.py` is the same
in plain loops.
"""

from .config import DuoConfig
from .loss import DuoLoss
from .network import DuoNetwork, duo_step

__all__ = ["DuoConfig", "DuoLoss", "DuoNetwork", "duo_step"]
