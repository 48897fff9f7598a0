"""A network that is scripted word by word, in the place of one that reads."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from sfumato.pipeline.result import CaseResult
from sfumato.types import Kind

SIDE = 32
SENTENCE = "one small disc, left"


def disc(column: float, radius: float = 5.0) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 15.5) ** 2 + (x - column) ** 2 <= radius**2


def foreground(text: str | None) -> np.ndarray:
    """The left disc for `left`, else the right one; larger for `large`; half sure of everything without a sentence."""
    words = [] if text is None else text.replace(",", " ").split()
    mask = disc(8 if "left" in words else 24, 8.0 if "large" in words else 5.0)
    return np.where(mask, 0.9 if words else 0.6, 0.1).astype(np.float32)


class Scripted:
    """Stands for `predict_image`, and notes what it was asked."""

    def __init__(self):
        self.asked: list[str | None] = []

    def __call__(self, method, image, rule=None, options=None, prompt=None) -> CaseResult:
        text = None if prompt is None else prompt.sentences[0]
        self.asked.append(text)
        p = foreground(text)
        if image.geometry.dims == 3:
            p = np.ascontiguousarray(np.broadcast_to(p.T[:, None, ::-1], image.geometry.shape))
        probability = np.stack([1 - p, p])
        error, labels = np.minimum(p, 1 - p), (p > 0.5).astype(np.uint8)
        maps, scores, volumes = {Kind.ERROR: error}, {Kind.ERROR: 0.25}, {"disc": (0.1, 0.1)}
        return CaseResult(image, ("background", "disc"), labels, probability, maps, scores, volumes)


class Encoder:
    def encode(self, sentences):
        long = torch.tensor([len(s.split()) > 20 for s in sentences])
        return SimpleNamespace(truncated=long, unknown=torch.zeros(len(sentences)))


METHOD = SimpleNamespace(
    name="text_guided",
    spec=SimpleNamespace(title="scripted", maps=(Kind.ERROR,), scores=(Kind.ERROR,), ranks_by=Kind.ERROR),
    segmenter=SimpleNamespace(
        condition=SimpleNamespace(encoder=Encoder()), spec=SimpleNamespace(label_values=(0, 1))
    ),
)
