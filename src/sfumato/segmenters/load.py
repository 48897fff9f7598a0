"""Networks of other programs as frozen segmenters, and saved ones built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import ConfigError, StorageError
from ..types import Link
from . import monai_bundle, nnunet, python_source, torchscript
from .described import Description, Found
from .frozen import FrozenSegmenter
from .presets import build_preset
from .spec import SegmenterSpec
from .state import fill, read_state
from .wrap import wrap


def load_network(
    source: str | Path,
    *,
    taps: str | Sequence[str] = "auto",
    weights: Path | str | None = None,
    arguments: Mapping[str, Any] | None = None,
    allow_pickle: bool = False,
    **described: Any,
) -> FrozenSegmenter:
    """A trained network of another program as a frozen segmenter.

    `sfumato.load_segmenter` does the same and reads our own folders too.

    Args:
        source: a MONAI bundle's folder; an nnU-Net v2 results folder; a TorchScript file; or
            `package.module:function` or `path/to/file.py:function`, which returns a torch.nn.Module.
        taps: names of features, `auto`, or a name in `TAP_PRESETS`.
        weights: for a function: a .safetensors file, or a checkpoint with `allow_pickle`.
        arguments: for a function: its keyword arguments.
        allow_pickle: read pickled checkpoints and TorchScript. Checkpoints are read by torch's restricted
            unpickler, so that nothing in them runs; TorchScript is a program.
        described: what the source does not say itself: `classes`, `channels`, `spatial_dims`, `link`,
            `window`, `divisor`, `label_values`, `preprocessing`; see `SegmenterSpec`.

    Raises:
        ConfigError: an unknown kind of source, or a description that is incomplete or contradicts the source.
        StorageError: files that are missing, damaged, or not allowed.
        TapError: taps that the network does not have.
        MissingExtraError: the source needs a package that is not installed.
    """
    asked = Description.of(described)
    found = _find(str(source), asked, weights, arguments, allow_pickle)
    full = found.description.completed(asked, str(source))
    missing = [name for name in ("classes", "spatial_dims") if getattr(full, name) is None]
    if missing:
        raise ConfigError(f"{source} does not say its {' and '.join(missing)}; pass them.")
    assert full.classes is not None
    return wrap(
        found.module,
        full.classes,
        spatial_dims=full.spatial_dims,  # type: ignore[arg-type]
        channels=full.channels or 1,
        taps=taps,
        link=full.link or Link.SOFTMAX,
        window=full.window,
        divisor=full.divisor,
        label_values=full.label_values or (),
        preprocessing=full.preprocessing,
        source=found.source,
        arguments=dict(found.arguments),
    )


def _find(
    source: str,
    asked: Description,
    weights: Path | str | None,
    arguments: Mapping[str, Any] | None,
    allow_pickle: bool,
) -> Found:
    path = Path(source)
    if not path.exists() and python_source.is_python_source(source):
        module = python_source.build_from_python(source, arguments or {})
        if weights is not None:
            fill(module, read_state(Path(weights), allow_pickle), Path(weights))
        return Found(module, python_source.absolute_source(source), dict(arguments or {}))
    if weights is not None or arguments:
        raise ConfigError(
            f"{source}: weights and arguments go with package.module:function only; leave them out."
        )
    if monai_bundle.is_monai_bundle(path):
        return monai_bundle.load_monai_bundle(path, asked, allow_pickle)
    if nnunet.is_nnunet_folder(path):
        return nnunet.load_nnunet(path, asked, allow_pickle)
    if torchscript.looks_like_torchscript(path):
        return Found(torchscript.load_torchscript(path, allow_pickle), torchscript.SOURCE)
    raise ConfigError(
        f"{source}: no segmenter found there; expected a folder of `sfumato train`, a MONAI bundle, "
        "an nnU-Net results folder, a TorchScript file (.ts, .pt), or package.module:function."
    )


def rebuild(spec: SegmenterSpec, folder: Path, allow_pickle: bool = False) -> nn.Module:
    """The network of a saved segmenter, with fresh weights (TorchScript brings its own).

    Args:
        spec: its `source` says how; see there.
        folder: of the saved segmenter.
        allow_pickle: trust the folder: run the Python function or the TorchScript program that it names.

    Raises:
        StorageError: it would run code and the caller does not trust it.
        ConfigError: an unknown kind of source, or one that cannot be built.
        MissingExtraError: it needs a package that is not installed.
    """
    scheme, _, name = spec.source.partition(":")
    if scheme == "preset":
        return build_preset(name, spec.channels, spec.logit_channels, **spec.arguments)
    if scheme == "python":
        # Any importable function could be named here, with any arguments.
        if not allow_pickle:
            raise StorageError(
                f"{folder}: its network is built by running the Python function {name}; pass "
                "--allow-pickle if you trust this folder."
            )
        return python_source.build_from_python(spec.source, spec.arguments)
    if scheme == "monai":
        return monai_bundle.build_monai(name, spec.arguments)
    if scheme == "nnunet":
        return nnunet.build_architecture(name, spec.arguments, spec.channels, spec.logit_channels)
    if spec.source == torchscript.SOURCE:
        return torchscript.load_torchscript(folder / torchscript.NETWORK_FILE, allow_pickle)
    raise ConfigError(
        f"{folder}: its network comes from {spec.source or 'a running program'!r}, which cannot be "
        "built again; wrap it with source='python:package.module:function' before saving it."
    )
