"""The noise head of a network that nobody may open: extra channels of its last convolution.

They are a linear head beside the classifier, on the same features, so deep supervision, replication and compilation
need not know of them. Their gradient does reach the features.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...errors import StorageError


def hide_extra_outputs(network: nn.Module, outputs: int) -> nn.Module:
    """Let a network built with more outputs than classes give all of them in training, the classes alone in evaluation.

    Args:
        network: (batch, channels, *grid) to `outputs` and more channels, or a list of heads; names of its weights and
            modules stay as they are.
        outputs: logits, background included.

    Returns:
        The same network.

    Example:
        >>> import torch
        >>> wide = hide_extra_outputs(nn.Conv2d(1, 5, 1), outputs=3)
        >>> image = torch.zeros(1, 1, 2, 2)
        >>> wide.train()(image).shape[1], wide.eval()(image).shape[1]
        (5, 3)
    """
    network.register_forward_hook(partial(_visible, outputs))
    return network


def _visible(outputs: int, network: nn.Module, _: Any, found: Any) -> Any:
    if network.training:
        return found
    if isinstance(found, list | tuple):
        return [head[:, :outputs] for head in found]
    return found[:, :outputs]


def narrowed_state(state: Mapping[str, Tensor], plain: nn.Module) -> dict[str, Tensor]:
    """Weights of a network with extra outputs for the same network without them.

    Args:
        state: of the wide network.
        plain: the network with as many outputs as classes.

    Raises:
        StorageError: they are not two widths of one network.

    Example:
        >>> wide, plain = nn.Conv2d(4, 5, 1), nn.Conv2d(4, 3, 1)
        >>> {name: tuple(v.shape) for name, v in narrowed_state(wide.state_dict(), plain).items()}
        {'weight': (3, 4, 1, 1), 'bias': (3,)}
    """
    own = plain.state_dict()
    wrong = sorted(state.keys() ^ own.keys()) or [n for n, v in own.items() if not _covers(state[n], v)]
    if wrong:
        raise StorageError(
            f"The weights {', '.join(wrong[:3])} do not fit the plain network, expected the same network with more "
            "outputs."
        )
    return {name: state[name][: len(v)].clone() if v.dim() else state[name] for name, v in own.items()}


def _covers(wide: Tensor, narrow: Tensor) -> bool:
    return (
        wide.dim() == narrow.dim()
        and wide.shape[1:] == narrow.shape[1:]
        and wide.shape[:1] >= narrow.shape[:1]
    )
