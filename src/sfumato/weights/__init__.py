"""The shipped pairs: each folder is a method with its segmenter and a card, `card.json`."""

from __future__ import annotations

from pathlib import Path

from ..errors import UnknownNameError

FOLDER = Path(__file__).parent


def shipped_pairs() -> tuple[str, ...]:
    """Names of the pairs that come with the package."""
    return tuple(sorted(p.name for p in FOLDER.iterdir() if (p / "method.json").exists()))


def find_method(source: str | Path) -> Path:
    """The folder of a fitted method: a path that holds `method.json`, or the name of a shipped pair.

    Raises:
        UnknownNameError: neither; lists the shipped pairs.
    """
    if (Path(source) / "method.json").exists():
        return Path(source)
    if str(source) in shipped_pairs():
        return FOLDER / str(source)
    raise UnknownNameError(
        "fitted method (a folder with method.json) or shipped pair", str(source), shipped_pairs()
    )


def find_segmenter(source: str | Path) -> Path:
    """The folder of a shipped pair by its name, else the path as it is.

    Example:
        >>> find_segmenter("runs/mine").name
        'mine'
    """
    return FOLDER / str(source) if str(source) in shipped_pairs() else Path(source)
