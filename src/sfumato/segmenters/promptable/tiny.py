"""Promptable segmenters that are built in a moment, for tests and examples: a phantom, and random SAMs.

The random ones have the real ones' parts and widths of tokens, but masks without any meaning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...errors import MissingExtraError
from .phantom import PhantomPromptable
from .transformers_sam import TransformersSam

__all__ = ["PhantomPromptable", "tiny_sam", "tiny_sam2"]

SIDE = 64
WIDTH = 256
_PROMPTS = {"hidden_size": WIDTH, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 16}
_DECODER = {"hidden_size": WIDTH, "num_attention_heads": 2, "mlp_dim": 32, "iou_head_hidden_dim": 32}


def tiny_sam(seed: int = 0) -> TransformersSam:
    """A random SAM that sees a square of 64 pixels.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    library = _transformers()
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_dim": 16,
        "window_size": 2,
    }
    config = library.SamConfig(
        vision_config={**vision, "output_channels": WIDTH, "image_size": SIDE, "num_pos_feats": WIDTH // 2},
        prompt_encoder_config=_PROMPTS,
        mask_decoder_config=_DECODER,
    )
    return TransformersSam(_drawn(library.SamModel, config, seed))


def tiny_sam2(seed: int = 0) -> TransformersSam:
    """A random SAM 2 that sees a square of 64 pixels.

    Raises:
        MissingExtraError: transformers is not installed.
    """
    library = _transformers()
    trunk = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1] * 4,
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [2, 2],
        "model_type": "sam2_hiera_det_model",
    }
    vision = {
        "backbone_config": trunk,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": WIDTH,
    }
    config = library.Sam2Config(
        vision_config=vision, prompt_encoder_config=_PROMPTS, mask_decoder_config=_DECODER
    )
    return TransformersSam(_drawn(library.Sam2Model, config, seed))


def _drawn(kind: Any, config: Any, seed: int) -> Any:
    """A network whose every parameter is random and whose answers differ from prompt to prompt.

    As the library starts it, many parameters are zero and all prompts get nearly the same answer.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = kind(config)
        codes = {id(m.weight) for m in network.modules() if isinstance(m, nn.Embedding)}
        for name, parameter in network.named_parameters():
            if id(parameter) in codes or "position" in name:
                nn.init.normal_(parameter)
            elif parameter.dim() > 1:
                nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
            else:
                nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.1)
    return network


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise MissingExtraError("transformers", "sam", "a tiny SAM") from error
    return transformers
