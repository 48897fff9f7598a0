"""A folder or repository as the transformers library writes it: its network, its preprocessor file, its licence.

Only safetensors are read and no code of a repository runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import ConfigError, MissingExtraError, StorageError
from .state import read_object

SEGMENT_ANYTHING = ("sam", "sam2", "sam2_video")
PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")


def load_repository(source: str) -> tuple[Any, nn.Module]:
    """Configuration and network, from safetensors alone and without running code of the repository.

    Args:
        source: a folder that `save_pretrained` wrote, or a repository's name on the hub, which may be downloaded.

    Raises:
        MissingExtraError: transformers is not installed.
        StorageError: no such repository, or one without safetensors.
        ConfigError: a network that the library does not have, or one that takes no images alone.
    """
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "sam", f"hf:{source}") from error
    local: dict[str, Any] = {"local_files_only": Path(source).is_dir(), "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(source, **local)
        if config.model_type == "sam":
            kind = transformers.SamModel
        elif config.model_type in SEGMENT_ANYTHING:
            kind = transformers.Sam2Model
        else:
            kind = transformers.AutoModel
        network = kind.from_pretrained(source, use_safetensors=True, dtype=torch.float32, **local)
    except OSError as error:
        first = str(error).strip().splitlines()[0]
        raise StorageError(
            f"hf:{source}: not a folder or repository with config.json and model.safetensors ({first})."
        ) from error
    except (
        ImportError
    ) as error:  # a package beside it that does not load, such as torchvision for another torch
        raise ConfigError(
            f"hf:{source}: transformers cannot import it here ({_first_cause(error)}); repair or uninstall that "
            "package."
        ) from error
    except (ValueError, KeyError) as error:  # an architecture that transformers does not have, or remote code
        raise ConfigError(f"hf:{source}: {str(error).strip().splitlines()[0]}") from error
    if network.main_input_name != "pixel_values":
        raise ConfigError(
            f"hf:{source}: {type(network).__name__} takes no images alone, expected a vision network."
        )
    return config, network


def _first_cause(error: BaseException) -> BaseException:
    below = error.__cause__ or error.__context__
    return error if below is None else _first_cause(below)


def _repository_file(source: str, name: str) -> Path | None:
    if Path(source).is_dir():
        place = Path(source) / name
        return place if place.is_file() else None
    from transformers.utils.hub import cached_file

    found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
    return Path(found) if found else None


def preprocessor_of(source: str) -> dict[str, Any]:
    """What the repository's preprocessor file says about images; nothing if there is none."""
    for name in PREPROCESSORS:
        place = _repository_file(source, name)
        if place is not None:
            said = read_object(place)
            return said.get("image_processor", said)
    return {}


def side_in(said: Mapping[str, Any]) -> int | None:
    """The square a preprocessor cuts, else the side it scales to."""
    for field in ("crop_size", "size"):
        size = said.get(field)
        sizes = size if isinstance(size, Mapping) else {"height": size}
        for name in ("height", "longest_edge", "shortest_edge"):
            if isinstance(sizes.get(name), int):
                return sizes[name]
    return None


def licence_of(source: str) -> str:
    """What the repository's README says in its header, `license: ...`."""
    place = _repository_file(source, "README.md")
    lines = place.read_text(encoding="utf-8", errors="replace").splitlines()[:60] if place else []
    return next((n.split(":", 1)[1].strip() for n in lines if n.startswith("license:")), "unknown")
