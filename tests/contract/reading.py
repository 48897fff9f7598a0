"""A network that reads one word: the bright discs it finds count only on the side that its sentence names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato.datasets.synthetic import make_phantoms
from sfumato.segmenters import FrozenSegmenter
from sfumato.segmenters.spec import SegmenterSpec
from sfumato.types import Batch, Link, TextPrompt

SIDES = ("left", "right")
GRID = (48, 64)
SHARPNESS = 6.0
"""Of the logit in intensity; of the side it is half."""


class ReadsASide(nn.Module):
    """Logits of what is bright; on the side that is not named they sink, the further from the middle the more."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(SHARPNESS))

    def forward(self, image: Tensor, side: Tensor | None = None) -> Tensor:
        """(batch, 1, rows, columns); `side` is -1 for left, 1 for right and 0 where nothing is said, (batch,)."""
        bright = self.scale * (F.avg_pool2d(image, 3, stride=1, padding=1) - 0.5)
        if side is None:
            return bright
        place = torch.linspace(-1, 1, image.shape[3], device=image.device)
        return bright + self.scale * torch.minimum(side.reshape(-1, 1, 1, 1) * place, torch.zeros_like(place))


class ReadingCondition:
    """Left or right, by the first of both words in a sentence."""

    key = "left or right"

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        if batch.prompt is None:
            return {}
        assert isinstance(batch.prompt, TextPrompt)
        words = [sentence.split() for sentence in batch.prompt.sentences]
        return {"side": torch.tensor([float("right" in said) - float("left" in said) for said in words])}


def reading_segmenter() -> FrozenSegmenter:
    """A fresh one."""
    spec = SegmenterSpec("", 2, 1, ("background", "disc"), GRID, link=Link.SIGMOID)
    return FrozenSegmenter(ReadsASide(), spec, ReadingCondition())


def told_phantoms(count: int, seed: int) -> list[Batch]:
    """Noisy pictures with a sentence each; what is bright counts where the sentence says."""
    cases = []
    for number, phantom in enumerate(make_phantoms(count, 2, seed, noise=0.45, grid=GRID)):
        label, side = torch.from_numpy(phantom.label).long(), SIDES[number % 2]
        middle = label.shape[1] // 2
        other = slice(middle, None) if side == "left" else slice(None, middle)
        label[:, other] = 0
        prompt = TextPrompt((f"the disc on the {side}",))
        cases.append(Batch(torch.from_numpy(phantom.image)[None], prompt, label[None]))
    return cases
