"""Networks that segment what a click, a box or a mask points at: SAM and its kin."""

from .frame import Frame
from .protocol import Decoded, Embedding, PromptableCard, PromptableSegmenter

__all__ = ["Decoded", "Embedding", "Frame", "PromptableCard", "PromptableSegmenter"]
