"""A trained text-guided network, ready to predict: as it was fitted, or as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import ConfigError, StorageError
from ...interfaces import Method, Segmenter
from ...registry import get_method
from ...storage import METHOD_FILE, SEGMENTER_FILE, load_method, load_segmenter_folder, read_record

NAME = "text_guided"
UNCALIBRATED = (
    "not calibrated: probabilities and doubt are the network's own, and no case is accepted; `sfumato fit text_guided` "
    "calibrates them"
)


def reads_sentences(segmenter: Segmenter) -> bool:
    """Whether a segmenter is told something besides the image."""
    return getattr(segmenter, "condition", None) is not None


def refuse_sentences(segmenter: Segmenter, does: str, instead: str) -> None:
    """Refuse a segmenter that reads sentences where none are given: it would segment without, and nobody would know.

    Args:
        segmenter: of any kind.
        does: what was to be done, such as `fit softmax`.
        instead: what to do.

    Raises:
        ConfigError: the segmenter reads sentences.
    """
    if reads_sentences(segmenter):
        raise ConfigError(f"{does}: its network reads sentences and would get none here; {instead}.")


def open_text_model(folder: Path) -> tuple[Method, dict[str, Any]]:
    """The method and its record; the record of a network that was trained but not fitted is empty.

    Args:
        folder: of `sfumato fit` with a network that reads sentences, whatever the method, or of `sfumato train --method
            text_guided`.

    Raises:
        StorageError: neither, or damaged files.
    """
    if (folder / METHOD_FILE).exists():
        method = load_method(folder)
        if not reads_sentences(method.segmenter):
            raise StorageError(
                f"{folder}: a folder of {method.name} whose network reads no sentences, expected one that does; use "
                f"`sfumato predict {folder} IMAGE`."
            )
        return method, read_record(folder)
    if (folder / SEGMENTER_FILE).exists():
        spec = get_method(NAME)
        return spec.build(spec.config(), load_segmenter_folder(folder)), {}
    raise StorageError(
        f"{folder}: neither {METHOD_FILE} nor {SEGMENTER_FILE} in it, expected a folder of `sfumato train --method "
        f"{NAME}` or of `sfumato fit` with such a network."
    )
