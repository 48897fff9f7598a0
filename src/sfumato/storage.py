"""Segmenters and methods on disk: safetensors for numbers, JSON for everything else, nothing that can run code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .errors import ConfigError, StorageError, UnknownNameError
from .interfaces import Method, Segmenter
from .registry import get_method
from .segmenters.frozen import Condition
from .segmenters.load import load_network, rebuild
from .segmenters.pinned import weights_sha256
from .segmenters.promptable.named import describe_promptable, open_promptable
from .segmenters.promptable.prompted_segmenter import PromptedSegmenter
from .segmenters.spec import SegmenterSpec
from .segmenters.state import fill
from .segmenters.torchscript import save_torchscript
from .segmenters.wrap import FrozenSegmenter

SEGMENTER_FORMAT = 1
METHOD_FORMAT = 1
SEGMENTER_FILE = "segmenter.json"
PROMPTABLE_FILE = "promptable.json"
WEIGHTS_FILE = "weights.safetensors"
METHOD_FILE = "method.json"
ESTIMATOR_FILE = "estimator.safetensors"
SEGMENTER_FOLDER = "segmenter"
NETWORKS_FOLDER = "networks"
TEXT_GUIDED = "text_guided"
"""Source of networks that read sentences: methods lie above segmenters, which cannot build them."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON under a temporary name, then rename, so that nobody ever reads half a file."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(part, path)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StorageError: missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(f"{path}: there is no such file; is {path.parent} the right folder?") from error
    except (OSError, ValueError) as error:
        raise StorageError(f"{path}: not readable as JSON ({error}); the file is damaged.") from error
    if not isinstance(content, dict):
        raise StorageError(f"{path}: expected a JSON object.")
    return content


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors under a temporary name, then rename."""
    part = path.with_name(path.name + ".part")
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, part)
    part.chmod(0o644)  # safetensors makes files that only their owner reads
    os.replace(part, path)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        StorageError: missing, damaged, or another format (a pickled checkpoint, say).
    """
    if path.suffix != ".safetensors":
        raise StorageError(
            f"{path}: expected a .safetensors file; a pickled checkpoint can run code when it is loaded, convert "
            "it, or pass --allow-pickle if you trust its source."
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"{path}: not a readable safetensors file ({error}).") from error


def save_segmenter(
    folder: Path, module: nn.Module, spec: SegmenterSpec, record: Mapping[str, Any] | None = None
) -> None:
    """Write `weights.safetensors` and `segmenter.json` (the spec, a fingerprint, and how it was trained)."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / WEIGHTS_FILE, module.state_dict())
    if isinstance(module, torch.jit.ScriptModule):
        save_torchscript(module, folder)
    content = {"format": SEGMENTER_FORMAT, "spec": spec.to_json(), "fingerprint": weights_sha256(module)}
    write_json(folder / SEGMENTER_FILE, content | {"record": dict(record or {})})


def save_method(folder: Path, method: Method, record: Mapping[str, Any] | None = None) -> None:
    """Write a method with its segmenter, so that the folder is all anybody needs.

    A promptable network is too large for that and belongs to its user: of it the name and the key are kept.

    Args:
        folder: gets `method.json`, `estimator.safetensors`, `segmenter/`, and `networks/0`, `networks/1`, ... where
            the method runs further networks.
        method: fitted.
        record: how it was fitted, its decision rules and calibration curves; plain types.
    """
    folder, segmenter = Path(folder), method.segmenter
    fingerprint = _fingerprint(segmenter)
    if isinstance(segmenter, FrozenSegmenter):
        save_segmenter(folder / SEGMENTER_FOLDER, segmenter.module, segmenter.spec)
    elif isinstance(segmenter, PromptedSegmenter):
        (folder / SEGMENTER_FOLDER).mkdir(parents=True, exist_ok=True)
        write_json(folder / SEGMENTER_FOLDER / PROMPTABLE_FILE, describe_promptable(segmenter))
    networks = [n for n in method.networks if isinstance(n, FrozenSegmenter)]
    for i, network in enumerate(networks):
        save_segmenter(folder / NETWORKS_FOLDER / str(i), network.module, network.spec)
    save_tensors(folder / ESTIMATOR_FILE, method.estimator.state_dict())
    content = {
        "format": METHOD_FORMAT,
        "name": method.name,
        "config": asdict(method.config),
        "segmenter_fingerprint": fingerprint,
        "network_fingerprints": [weights_sha256(network.module) for network in networks],
        "record": dict(record or {}),
    }
    write_json(folder / METHOD_FILE, content)


def load_method(folder: Path, allow_pickle: bool = False, segmenter: Segmenter | None = None) -> Method:
    """Read what `save_method` wrote.

    Args:
        folder: written by `save_method`.
        allow_pickle: trust the folder: run the Python function or the TorchScript program that it names.
        segmenter: the very network the method was fitted on, already loaded, so that several methods share it;
            None loads the one in the folder, or the promptable network that it names.

    Raises:
        StorageError: missing or damaged files, another format version, or a head of another segmenter.
    """
    folder = Path(folder)
    content = read_json(folder / METHOD_FILE)
    if content.get("format") != METHOD_FORMAT:
        raise StorageError(
            f"{folder}: method format {content.get('format')!r}, expected {METHOD_FORMAT}; fit it again with this "
            "version."
        )
    spec = get_method(str(content.get("name")))
    segmenter = segmenter or _load_segmenter(folder / SEGMENTER_FOLDER, allow_pickle)
    found, expected = _fingerprint(segmenter), content.get("segmenter_fingerprint")
    if found != expected:
        raise StorageError(
            f"{folder}: was fitted on another segmenter than this one ({expected}, not {found}); fit it again."
        )
    config = config_from_plain(spec.config, content.get("config", {}))
    networks = _load_networks(folder, content.get("network_fingerprints", []), allow_pickle)
    method = spec.build(config, segmenter, networks) if spec.networks else spec.build(config, segmenter)
    try:
        method.estimator.load_state_dict(load_tensors(folder / ESTIMATOR_FILE))
    except RuntimeError as error:
        raise StorageError(f"{folder}: the estimator's tensors do not fit its settings ({error}).") from error
    return method


def _fingerprint(segmenter: Segmenter) -> str:
    if isinstance(segmenter, FrozenSegmenter):
        condition = segmenter.condition
        weights = weights_sha256(segmenter.module)
        return weights if condition is None else f"{weights} {condition.key}"
    if isinstance(segmenter, PromptedSegmenter):
        return segmenter.model.card.key
    raise StorageError(
        f"{type(segmenter).__name__} cannot be saved, expected a FrozenSegmenter from wrap() or a PromptedSegmenter."
    )


def _load_segmenter(folder: Path, allow_pickle: bool) -> Segmenter:
    if (folder / PROMPTABLE_FILE).is_file():
        return open_promptable(read_json(folder / PROMPTABLE_FILE))
    return load_segmenter_folder(folder, allow_pickle)


def _load_networks(folder: Path, expected: Sequence[str], allow_pickle: bool) -> tuple[FrozenSegmenter, ...]:
    found = []
    for i, known in enumerate(expected):
        place = folder / NETWORKS_FOLDER / str(i)
        network = load_segmenter_folder(place, allow_pickle)
        if weights_sha256(network.module) != known:
            raise StorageError(
                f"{place}: is another network than the one the method was fitted with; fit it again."
            )
        found.append(network)
    return tuple(found)


def read_record(folder: Path) -> dict[str, Any]:
    """The record that `save_method` kept."""
    return dict(read_json(Path(folder) / METHOD_FILE).get("record", {}))


def config_from_plain(kind: type, content: Mapping[str, Any]) -> Any:
    """Build a settings dataclass from JSON types; lists become tuples, nested dataclasses are built too.

    Raises:
        UnknownNameError: a field this version does not have.
    """
    hints, known = get_type_hints(kind), {f.name for f in fields(kind)}
    values = {}
    for name, value in content.items():
        if name not in known:
            raise UnknownNameError(f"setting of {kind.__name__}", name, known)
        nested = hints[name]
        inner = isinstance(nested, type) and is_dataclass(nested)
        values[name] = config_from_plain(nested, value) if inner else _tuples(value)
    return kind(**values)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def load_segmenter_folder(folder: Path, allow_pickle: bool = False) -> FrozenSegmenter:
    """Read what `save_segmenter` wrote and check that the weights are the ones described.

    Raises:
        StorageError: missing or damaged files, another format version, or other weights.
    """
    folder = Path(folder)
    content = read_json(folder / SEGMENTER_FILE)
    if content.get("format") != SEGMENTER_FORMAT:
        raise StorageError(
            f"{folder}: segmenter format {content.get('format')!r}, expected {SEGMENTER_FORMAT}; save it again."
        )
    spec = SegmenterSpec.from_json(content.get("spec", {}))
    module, condition = _rebuild(spec, folder, allow_pickle)
    if not isinstance(module, torch.jit.ScriptModule):
        fill(module, load_tensors(folder / WEIGHTS_FILE), folder)
    if weights_sha256(module) != content.get("fingerprint"):
        raise StorageError(
            f"{folder}: the weights are not those that were saved; the folder was changed or damaged."
        )
    return FrozenSegmenter(module, spec, condition)


def _rebuild(spec: SegmenterSpec, folder: Path, allow_pickle: bool) -> tuple[nn.Module, Condition | None]:
    """A network with fresh weights, and what it is told besides the image."""
    if spec.source != TEXT_GUIDED:
        return rebuild(spec, folder, allow_pickle), None
    from .methods.text_guided.segmenter import rebuild_segmenter

    segmenter = rebuild_segmenter(spec)
    return segmenter.module, segmenter.condition


def load_segmenter(
    source: str | Path, *, taps: str | Sequence[str] = "auto", allow_pickle: bool = False, **described: Any
) -> FrozenSegmenter:
    """A trained network as a frozen segmenter, from wherever it lies.

    Args:
        source: a folder that `sfumato train` or `save_segmenter` wrote, a fitted method's folder, or what
            `sfumato.segmenters.load.load_network` reads: a MONAI bundle, an nnU-Net v2 results folder, a TorchScript
            file, `package.module:function`.
        taps: names of features, `auto` (those that were saved, if any), or a name in `TAP_PRESETS`.
        allow_pickle: read pickled checkpoints and TorchScript, and run the Python function that a saved segmenter
            names.
        described: for other programs' networks, see `load_network`.

    Raises:
        StorageError: missing or damaged files, or some that are not allowed.
        ConfigError: an unknown kind of source, or a description that is incomplete or contradicts the source.
        TapError: taps that the network does not have.
    """
    place = Path(source)
    for folder in (place, place / SEGMENTER_FOLDER):
        if not (folder / SEGMENTER_FILE).is_file():
            continue
        given = [name for name, value in described.items() if value not in (None, (), {}, [], "")]
        if given:
            raise ConfigError(
                f"{source}: a saved segmenter says its {', '.join(given)} itself; leave that out."
            )
        segmenter = load_segmenter_folder(folder, allow_pickle)
        return segmenter if taps == "auto" and segmenter.spec.taps else segmenter.with_taps(taps)
    return load_network(source, taps=taps, allow_pickle=allow_pickle, **described)
