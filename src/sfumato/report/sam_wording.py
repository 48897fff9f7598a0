"""What is said of a mask that somebody pointed at: one plain sentence, and the numbers behind it in words."""

from __future__ import annotations

import math

from ..pipeline.prompted_plane import ObjectAnswer

LEAST_GAIN = 0.02
"""An expected gain in IoU below this is not worth a click."""
POOR = 0.5
"""Where nothing helps and the expected IoU is below this, a person had better draw."""
UNCALIBRATED = (
    "No heads were given, so nothing here is calibrated: the number is the network's own estimate, which tends to be "
    "too high. Fit heads with `sfumato sam fit`."
)


def headline(answer: ObjectAnswer, calibrated: bool) -> str:
    """The expected IoU as a clear number.

    With heads `Expected IoU 0.42 [0.20, 0.61]`, without `Own estimate 0.93, not calibrated`.
    """
    if not calibrated:
        return f"Own estimate {answer.estimates[answer.chosen]:.2f}, not calibrated"
    return f"Expected IoU {interval(answer.kept.expected_iou, answer.kept.low, answer.kept.high)}"


def interval(value: float, low: float, high: float) -> str:
    """A number and its interval.

    Example:
        >>> interval(0.419, 0.2, 0.613)
        '0.42 [0.20, 0.61]'
    """
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def remedies(answer: ObjectAnswer, larger: str | None) -> list[tuple[float, str]]:
    """What would help, the largest expected gain in IoU first; only gains that are worth it.

    Args:
        answer: of one object.
        larger: the network that the model gap is about; None without one.

    Returns:
        Gains over the offered mask, and how to get them as the subject of a sentence.
    """
    found = []
    if answer.click is not None:
        where = "inside" if answer.click.sign else "outside"
        place = f"({answer.click.row}, {answer.click.column})"
        found.append((answer.click.gain, f"a click {where} of the object at {place}"))
    worth = [j + 1 for j, shown in enumerate(answer.shown) if shown]
    if len(worth) > 1:
        found.append((answer.task_gap - answer.ahead, f"choosing among masks {_listed(worth)}"))
    if larger is not None:
        found.append((answer.model_gap - answer.ahead, f"asking {larger}"))
    kept = [(gain, how) for gain, how in found if math.isfinite(gain) and gain >= LEAST_GAIN]
    return sorted(kept, reverse=True)


def advice(answer: ObjectAnswer, calibrated: bool, larger: str | None = None) -> str:
    """One sentence: how good the mask is expected to be, and what to do.

    Args:
        answer: of one object.
        calibrated: whether heads told the expected IoU.
        larger: the network that the model gap is about; None without one.
    """
    said = headline(answer, calibrated)
    helps = remedies(answer, larger)
    if helps:
        first, *others = helps
        more = "".join(f", {how} {gain:.2f}" for gain, how in others)
        return f"{said}: {first[1]} is expected to add {first[0]:.2f}{more}."
    if calibrated and answer.kept.expected_iou < POOR:
        return f"{said}: nothing that was looked at is expected to add much; outline it by hand."
    looked = "click" if larger is None else "click or larger network"
    return f"{said}: no {looked} is expected to add more than {LEAST_GAIN:g}."


def numbers(answer: ObjectAnswer, calibrated: bool, larger: str | None) -> list[tuple[str, str, str]]:
    """What a table shows of an object: name, value, meaning."""
    rows = [
        (
            "network's own estimate",
            f"{answer.estimates[answer.own]:.2f}",
            f"What the network itself says of mask {answer.own + 1}, which it ranks first; not calibrated.",
        )
    ]
    if not calibrated:
        return rows
    rows.insert(
        0,
        (
            "expected IoU",
            interval(answer.kept.expected_iou, answer.kept.low, answer.kept.high),
            f"Of mask {answer.chosen + 1}, the one that is shown; the interval is meant to hold nine of ten masks.",
        ),
    )
    over = f"Expected gain in IoU over mask {answer.own + 1}"
    rows.append(
        (
            "prompt gap",
            f"{answer.prompt_gap:+.2f}",
            f"{over} from eight clicks inside of the object in place of this prompt.",
        )
    )
    rows.append(("task gap", f"{answer.task_gap:+.2f}", f"{over} from pointing out the best of the three."))
    if larger is not None:
        rows.append(("model gap", f"{answer.model_gap:+.2f}", f"{over} from asking {larger}."))
    return rows


def _listed(items: list[int]) -> str:
    return f"{', '.join(map(str, items[:-1]))} and {items[-1]}"
