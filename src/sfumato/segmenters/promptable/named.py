"""A promptable network by its name: how what was fitted on it finds it again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import StorageError
from .prompted_segmenter import PromptedSegmenter

FORMAT = 1


def describe_promptable(segmenter: PromptedSegmenter) -> dict[str, Any]:
    """Name, side and key of the network, in plain types.

    Example:
        >>> from sfumato.segmenters.promptable.tiny import PhantomPromptable
        >>> said = describe_promptable(PromptedSegmenter(PhantomPromptable(), channels=1))
        >>> said["name"], said["side"], said["channels"]
        ('phantom', 128, 1)
    """
    card = segmenter.model.card
    return {
        "format": FORMAT,
        "name": card.name,
        "side": card.side,
        "channels": segmenter.spec.channels,
        "key": card.key,
    }


def open_promptable(content: Mapping[str, Any]) -> PromptedSegmenter:
    """The network that `describe_promptable` described, opened by its name.

    Raises:
        StorageError: another format, or what now goes by that name is another network.
        UnknownNameError: no network of that name; hand it over instead.
    """
    from .load import load_promptable  # networks bring their libraries along

    if content.get("format") != FORMAT or not {"name", "side", "channels", "key"} <= set(content):
        raise StorageError(
            f"A promptable network described as {dict(content)}, expected format {FORMAT} with name, side, channels "
            "and key; save the method again."
        )
    network = load_promptable(content["name"], side=content["side"])
    if network.card.key != content["key"]:
        raise StorageError(
            f"{content['name']} is now {network.card.key}, expected {content['key']}; what was fitted on one network "
            "means nothing on another, fit it again."
        )
    return PromptedSegmenter(network, content["channels"])
