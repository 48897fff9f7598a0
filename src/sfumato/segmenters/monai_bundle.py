"""MONAI bundles: `configs/metadata.json`, `configs/inference.json` and the weights in `models/`.

Only the network is built, from a class in `monai.networks.nets` and plain arguments. Expressions (`$...`) are
Python code, and are never evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ConfigError, MissingExtraError, StorageError, UnknownNameError
from ..types import Link
from .bundle_transforms import read_link, read_preprocessing
from .described import Description, Found
from .state import fill, read_object, read_state

SCHEME = "monai:"
NETS = "monai.networks.nets"
METADATA, INFERENCE = Path("configs/metadata.json"), Path("configs/inference.json")
WEIGHTS = "models/model.safetensors", "models/model.pt"


def is_monai_bundle(folder: Path) -> bool:
    """Whether the folder has a bundle's metadata."""
    return (folder / METADATA).is_file()


def load_monai_bundle(folder: Path, asked: Description, allow_pickle: bool) -> Found:
    """The bundle's network with its weights, and what the bundle says about it.

    Args:
        folder: the bundle.
        asked: what the caller says; a given preprocessing replaces the bundle's, which is then not read.
        allow_pickle: whether `models/model.pt` may be read where there is no `models/model.safetensors`.

    Raises:
        ConfigError: a network or preprocessing that is more than plain data.
        StorageError: missing or damaged files.
        MissingExtraError: MONAI is not installed.
    """
    metadata, config = read_object(folder / METADATA), read_object(folder / INFERENCE)
    definition = resolve(config.get("network_def"), config, "network_def")
    if not isinstance(definition, Mapping) or "_target_" not in definition:
        raise ConfigError(f"{folder / INFERENCE}: expected a network_def with a _target_.")
    name = _class_name(str(definition["_target_"]))
    arguments = {k: v for k, v in definition.items() if not k.startswith("_")}
    module = build_monai(name, arguments)
    weights = next((folder / w for w in WEIGHTS if (folder / w).is_file()), None)
    if weights is None:
        raise StorageError(f"{folder}: no weights, expected {' or '.join(WEIGHTS)}.")
    fill(module, read_state(weights, allow_pickle), weights)
    return Found(module, SCHEME + name, arguments, _describe(metadata, config, arguments, asked, folder))


def build_monai(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """A network of MONAI's by its class name, with fresh weights.

    Raises:
        UnknownNameError: no network class of that name in `monai.networks.nets`.
        ConfigError: arguments it does not take, or that would fetch weights.
        MissingExtraError: MONAI is not installed.
    """
    try:
        from monai.networks import nets
    except ImportError as error:
        raise MissingExtraError("monai", "train", f"the network {name}") from error
    known = {k: v for k, v in vars(nets).items() if isinstance(v, type) and issubclass(v, nn.Module)}
    if name not in known:
        raise UnknownNameError(f"network in {NETS}", name, known)
    fetching = [k for k, v in arguments.items() if "pretrained" in k and v]
    if fetching:
        raise ConfigError(
            f"{name}: the argument {fetching[0]} fetches other weights, expected a plain network."
        )
    try:
        return known[name](**arguments)
    except (TypeError, ValueError, KeyError, AssertionError) as error:
        raise ConfigError(
            f"{NETS}.{name} does not take the arguments {dict(arguments)} ({error})."
        ) from error


def resolve(value: Any, config: Mapping[str, Any], where: str) -> Any:
    """Replace references (`@name`, `@name::key`) to plain values.

    Raises:
        ConfigError: an expression, a dangling or circular reference, or a component inside an argument.
    """
    if isinstance(value, str) and value.startswith("@"):
        target: Any = config
        for key in value[1:].replace("#", "::").split("::"):
            target = target.get(key) if isinstance(target, Mapping) else None
        if target is None or (isinstance(target, str) and target.startswith("@")):
            raise ConfigError(f"{where}: the reference {value!r} does not lead to a plain value.")
        return resolve(target, config, where)
    if isinstance(value, str) and value.startswith(("$", "%")):
        raise ConfigError(
            f"{where}: {value!r} is code or a macro, which is not run; write its value into the file."
        )
    if isinstance(value, Mapping):
        if "_target_" in value and "." in where:
            raise ConfigError(f"{where}: an argument that is itself a component, expected a plain value.")
        return {k: resolve(v, config, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, list):
        return [resolve(v, config, f"{where}.{i}") for i, v in enumerate(value)]
    return value


def _describe(
    metadata: Mapping[str, Any],
    config: Mapping[str, Any],
    arguments: Mapping[str, Any],
    asked: Description,
    folder: Path,
) -> Description:
    formats = metadata.get("network_data_format", {})
    image = next(iter(formats.get("inputs", {}).values()), {})
    output = next(iter(formats.get("outputs", {}).values()), {})
    outputs = output.get("num_channels", arguments.get("out_channels"))
    link = asked.link or read_link(config, outputs, folder)
    shape = _plain_sides(image.get("spatial_shape"))
    dims = arguments.get("spatial_dims") or len(image.get("spatial_shape") or ()) or None
    channels = image.get("num_channels", arguments.get("in_channels"))
    preprocessing = asked.preprocessing or read_preprocessing(config, dims, channels, folder)
    inferer = config.get("inferer")
    roi = _plain_sides(inferer.get("roi_size")) if isinstance(inferer, Mapping) else None
    return Description(
        classes=_class_names(output, outputs, link),
        channels=channels,
        spatial_dims=dims,
        link=link,
        window=roi or shape,
        preprocessing=preprocessing,
    )


def _class_names(output: Mapping[str, Any], outputs: int | None, link: Link) -> tuple[str, ...] | int | None:
    if outputs is None:
        return None
    named = {int(k): str(v) for k, v in output.get("channel_def", {}).items() if str(k).isdigit()}
    if link is Link.SIGMOID:
        return ("background", named.get(outputs - 1, "class 1"))
    return tuple(named[i] for i in range(outputs)) if all(i in named for i in range(outputs)) else outputs


def _plain_sides(value: Any) -> tuple[int, ...] | None:
    plain = isinstance(value, Sequence) and value and all(isinstance(n, int) and n > 0 for n in value)
    return tuple(value) if plain else None


def _class_name(target: str) -> str:
    package, _, name = target.rpartition(".")
    if package and package != NETS and not package.startswith(NETS + "."):
        raise ConfigError(
            f"The bundle's network is {target}, expected a class of {NETS}; nothing else is built."
        )
    return name
