"""What is kept of a decode: everything a head may look at, and, where labels are known, how good each mask truly is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import InputError

PROMPT_KINDS = ("point", "points", "box", "loose_box", "misplaced_box", "box_and_point")
"""One click; several; a tight box; a box drawn by a hurried hand; one that misses much of the object; box and click."""
VISIBLE_KINDS = ("point", "points", "box", "box_and_point")
SEEN_AS = {"loose_box": "box", "misplaced_box": "box"}
"""How tight a box is cannot be seen where a mask is wanted, so heads are not told."""


@dataclass(frozen=True)
class HypothesisInputs:
    """What is known of a decode without any label; one row is one prompt, three hypotheses each.

    Args:
        iou_token: the decoder's IoU token after its last normalisation.
        mask_tokens: m0 to m3; hypothesis j is made by token j + 1.
        estimates: the network's own estimates of IoU.
        shape: free numbers per hypothesis, named by `shape.SHAPE_FEATURES`.
        kind: index into `PROMPT_KINDS`.
        rung: index into the ladder of networks, 0 the cheapest.
    """

    iou_token: Float[Tensor, "rows token_width"]
    mask_tokens: Float[Tensor, "rows 4 token_width"]
    estimates: Float[Tensor, "rows hypotheses"]
    shape: Float[Tensor, "rows hypotheses features"]
    kind: Int[Tensor, "rows"]
    rung: Int[Tensor, "rows"]

    def __len__(self) -> int:
        return len(self.iou_token)

    def __getitem__(self, rows: Tensor | slice) -> HypothesisInputs:
        return HypothesisInputs(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def own(self) -> Int[Tensor, "rows"]:
        """The hypothesis that the network itself ranks first."""
        return self.estimates.argmax(dim=1)


@dataclass(frozen=True)
class GapRecords:
    """Decodes whose truth is known; one row is one prompt for one object on one rung of the ladder.

    Args:
        inputs: what heads see.
        iou: true IoU of each hypothesis at the plane's own resolution.
        rung_best: IoU of the truly best hypothesis of the same prompt on every rung, NaN where it was not decoded.
        rung_own: IoU of the hypothesis that each rung's network ranks first.
        dense_best: as `rung_best`, of the same network with the dense prompt (eight clicks inside of the object).
        dense_own: as `rung_own`, with the dense prompt.
        references: Monte-Carlo entropies by name (`prompts`, `models`, `augmentations`), NaN where not computed.
        objects: name per row, equal for all rows of one object.
        groups: what splits and bootstraps keep together: picture, patient or video.
        sets: data set.
    """

    inputs: HypothesisInputs
    iou: Float[Tensor, "rows hypotheses"]
    rung_best: Float[Tensor, "rows rungs"]
    rung_own: Float[Tensor, "rows rungs"]
    dense_best: Float[Tensor, "rows"]
    dense_own: Float[Tensor, "rows"]
    references: Mapping[str, Float[Tensor, "rows"]]
    objects: tuple[str, ...]
    groups: tuple[str, ...]
    sets: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.iou)

    def __getitem__(self, rows: Tensor | slice) -> GapRecords:
        """Some rows, chosen by indices, a mask or a slice."""
        kept = torch.arange(len(self))[rows].tolist()
        texts: dict[str, Any] = {name: tuple(getattr(self, name)[i] for i in kept) for name in TEXTS}
        numbers: dict[str, Any] = {name: getattr(self, name)[rows] for name in TRUTHS}
        references = {name: value[rows] for name, value in self.references.items()}
        return GapRecords(self.inputs[rows], references=references, **numbers, **texts)

    def own(self) -> Int[Tensor, "rows"]:
        """k_s: the hypothesis that the network itself ranks first."""
        return self.inputs.own()

    def best(self) -> Int[Tensor, "rows"]:
        """k*: the truly best hypothesis. Not known where a mask is wanted: for targets and upper bounds only."""
        return self.iou.argmax(dim=1)

    def of(self, hypothesis: Int[Tensor, "rows"]) -> Float[Tensor, "rows"]:
        """True IoU of one hypothesis per row."""
        return self.iou.gather(1, hypothesis[:, None])[:, 0]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything as arrays by name, texts as fixed-width unicode; the inverse is `from_arrays`."""
        found = {f"inputs.{f.name}": getattr(self.inputs, f.name).numpy() for f in fields(self.inputs)}
        found |= {name: getattr(self, name).numpy() for name in TRUTHS}
        found |= {f"references.{name}": value.numpy() for name, value in self.references.items()}
        return found | {name: np.array(getattr(self, name), dtype=np.str_) for name in TEXTS}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> GapRecords:
        """The inverse of `to_arrays`.

        Raises:
            InputError: an array is missing; says which.
        """
        names = [f"inputs.{f.name}" for f in fields(HypothesisInputs)] + [*TRUTHS, *TEXTS]
        missing = [name for name in names if name not in arrays]
        if missing:
            raise InputError(f"Records without {', '.join(missing)}, expected those that `to_arrays` gives.")
        inputs = {f.name: _tensor(arrays[f"inputs.{f.name}"]) for f in fields(HypothesisInputs)}
        numbers: dict[str, Any] = {name: _tensor(arrays[name]) for name in TRUTHS}
        texts: dict[str, Any] = {name: tuple(str(v) for v in arrays[name]) for name in TEXTS}
        prefix = "references."
        references = {k.removeprefix(prefix): _tensor(v) for k, v in arrays.items() if k.startswith(prefix)}
        return GapRecords(HypothesisInputs(**inputs), references=references, **numbers, **texts)

    @staticmethod
    def cat(parts: Sequence[GapRecords]) -> GapRecords:
        """All rows of all parts, in order; a reference that some part lacks is NaN there.

        Raises:
            InputError: no parts.
        """
        if not parts:
            raise InputError("No records to join, expected at least one part.")
        inputs = {
            f.name: torch.cat([getattr(p.inputs, f.name) for p in parts]) for f in fields(HypothesisInputs)
        }
        numbers: dict[str, Any] = {name: torch.cat([getattr(p, name) for p in parts]) for name in TRUTHS}
        texts: dict[str, Any] = {name: sum((getattr(p, name) for p in parts), ()) for name in TEXTS}
        names = dict.fromkeys(name for p in parts for name in p.references)
        references = {
            n: torch.cat([p.references.get(n, torch.full((len(p),), float("nan"))) for p in parts])
            for n in names
        }
        return GapRecords(HypothesisInputs(**inputs), references=references, **numbers, **texts)


TRUTHS = ("iou", "rung_best", "rung_own", "dense_best", "dense_own")
TEXTS = ("objects", "groups", "sets")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
