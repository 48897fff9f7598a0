"""Where and in which precision a network runs."""

from __future__ import annotations

import torch

from ..errors import ConfigError


def pick_device(name: str) -> torch.device:
    """`auto` is a GPU if there is one.

    Raises:
        ConfigError: not a device of this machine.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise ConfigError(
            f"device={name!r}: not usable here ({error}); expected auto, cpu or cuda."
        ) from error
    return device


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 where it is native: on GPUs that say so and on CPUs with AMX or AVX-512 bf16."""
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capability = torch.backends.cpu.get_cpu_capability()
        native = capability.startswith("AVX512") and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32
