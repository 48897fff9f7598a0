"""What a fit must be given, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from ..interfaces import Segmenter
from ..segmenters.wrap import FrozenSegmenter
from ..types import Batch


def need_frozen(segmenter: Segmenter, method: str, does: str) -> FrozenSegmenter:
    """The segmenter, if it is one that is wrapped.

    Args:
        segmenter: what was given.
        method: who asks.
        does: what for, as a verb and its object, such as `reads tapped features`.

    Raises:
        InputError: not a `FrozenSegmenter`.
    """
    if not isinstance(segmenter, FrozenSegmenter):
        raise InputError(
            f"{method} {does}, got a {type(segmenter).__name__}, expected a FrozenSegmenter; make one with "
            "sfumato.segmenters.wrap."
        )
    return segmenter


def need_cases(fitting: Sequence[Batch], calibration: Sequence[Batch], method: str) -> None:
    """Refuse a fit on nothing.

    Raises:
        InputError: no fitting case, or no calibration case.
    """
    if not fitting or not calibration:
        raise InputError(
            f"{method} got {len(fitting)} fitting and {len(calibration)} calibration cases, expected at least one "
            "of each."
        )


def need_some(cases: Sequence[Batch], method: str, what: str) -> None:
    """Refuse a fit without labelled cases.

    Args:
        cases: what was given.
        method: who asks.
        what: which cases, such as `fitting`.

    Raises:
        InputError: there are none.
    """
    if not cases:
        raise InputError(f"{method} got 0 {what} cases, expected at least one.")
