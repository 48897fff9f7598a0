"""The decoder's tokens: seen exactly as they are, belonging to the masks they make, and following the paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from sfumato.errors import ConfigError
from sfumato.segmenters.promptable.tiny import tiny_sam, tiny_sam2
from sfumato.segmenters.promptable.token_tap import seen_tokens
from sfumato.segmenters.promptable.transformers_sam import TransformersSam
from sfumato.types import SpatialPrompt

SIDE = 64


@pytest.fixture(scope="module", params=[tiny_sam, tiny_sam2])
def network(request, transformers) -> TransformersSam:
    return request.param(seed=3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def maps_of(network: TransformersSam, images: int) -> Tensor | list[Tensor]:
    """What the network keeps of some random images."""
    square = drawn(images, 3, SIDE, SIDE, seed=9)
    return network.network.get_image_embeddings(square)


def raw(network: TransformersSam, maps: Tensor | list[Tensor], rows: int, **options: bool):
    """The library's own answer to one click per row, (images, rows)."""
    images = len(maps if isinstance(maps, Tensor) else maps[0])
    points = drawn(images, rows, 1, 2, seed=4) * SIDE
    labels = torch.ones(images, rows, 1, dtype=torch.long)
    with torch.no_grad():
        return network.network(image_embeddings=maps, input_points=points, input_labels=labels, **options)


def test_tokens_are_the_transformers_own_output(network):
    queries: list[Tensor] = []
    handle = network.network.mask_decoder.transformer.register_forward_hook(
        lambda _, inputs, outputs: queries.append(outputs[0])
    )
    with seen_tokens(network.network.mask_decoder) as seen:
        answer = raw(network, maps_of(network, 2), 3)
    handle.remove()
    first = 0 if network.family == "sam" else 1  # SAM 2 puts the object token before all
    assert torch.equal(seen.iou_token(), queries[0][:, :, first])
    assert torch.equal(seen.mask_tokens(), queries[0][:, :, first + 1 : first + 5])
    assert tuple(seen.iou_token().shape) == (2, 3, 256)
    assert tuple(seen.mask_tokens().shape) == (2, 3, 4, 256)
    assert tuple(answer.pred_masks.shape) == (2, 3, 3, 16, 16)
    assert tuple(answer.iou_scores.shape) == (2, 3, 3)
    if network.family == "sam2":
        assert tuple(answer.object_score_logits.shape) == (2, 3, 1)


def test_tokens_do_not_depend_on_the_multimask_flag(network):
    maps, found = maps_of(network, 1), []
    for flag in (True, False):
        with seen_tokens(network.network.mask_decoder) as seen:
            raw(network, maps, 3, multimask_output=flag)
        found.append((seen.iou_token(), seen.mask_tokens()))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_looking_changes_nothing_and_leaves_nothing(network):
    decoder, maps = network.network.mask_decoder, maps_of(network, 1)
    before, weights = raw(network, maps, 3), {k: v.clone() for k, v in decoder.state_dict().items()}
    with seen_tokens(decoder):
        during = raw(network, maps, 3)
    with pytest.raises(RuntimeError, match="stop"), seen_tokens(decoder):
        raise RuntimeError("stop")
    assert torch.equal(before.pred_masks, during.pred_masks)
    assert torch.equal(before.iou_scores, during.iou_scores)
    assert all(not module._forward_pre_hooks and not module._forward_hooks for module in decoder.modules())
    assert all(torch.equal(weights[k], v) for k, v in decoder.state_dict().items())
    assert not any("forward" in vars(module) for module in decoder.modules())


def test_the_hypothesis_of_a_mask_token_is_one_less_than_its_number(transformers):
    """A constant added behind hypernetwork k moves returned mask k - 1 alone, and so does it in our answers."""
    prompts, plane = SpatialPrompt.of_points([[(9, 30, 1)], [(40, 2, 0)]]), drawn(1, SIDE, SIDE)
    for k in range(4):
        network = tiny_sam2(seed=1)
        embedding = network.encode(plane)
        before = network.decode(embedding, prompts).logits
        with torch.no_grad():
            network.network.mask_decoder.output_hypernetworks_mlps[k].proj_out.bias += 1.0
        # Other weights make another network, so that the old embedding would be refused by a new card.
        moved = (network.decode(embedding, prompts).logits - before).abs().amax(dim=(0, 2, 3)) > 1e-3
        assert moved.tolist() == [j == k - 1 for j in range(3)]


def test_two_images_together_are_two_alone(network):
    maps = maps_of(network, 2)
    with seen_tokens(network.network.mask_decoder) as seen:
        whole = raw(network, maps, 3)
    points = drawn(2, 3, 1, 2, seed=4) * SIDE
    for i in range(2):
        part = maps[i : i + 1] if isinstance(maps, Tensor) else [m[i : i + 1] for m in maps]
        with seen_tokens(network.network.mask_decoder) as alone, torch.no_grad():
            answer = network.network(
                image_embeddings=part,
                input_points=points[i : i + 1],
                input_labels=torch.ones(1, 3, 1, dtype=torch.long),
            )
        assert torch.allclose(answer.pred_masks[0], whole.pred_masks[i], atol=1e-5)
        assert torch.allclose(alone.mask_tokens()[0], seen.mask_tokens()[i], atol=1e-5)


def test_a_module_that_is_no_decoder_is_refused():
    with pytest.raises(ConfigError, match="expected an iou_prediction_head"), seen_tokens(nn.Linear(2, 2)):
        pass


# The slow twin: SAM's two-way transformer (Kirillov et al., 2023, appendix A) for one prompt, head by head.


def attend(part, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    q, k, v = part.q_proj(queries), part.k_proj(keys), part.v_proj(values)
    width = q.shape[1] // part.num_attention_heads
    found = torch.zeros_like(q)
    for head in range(part.num_attention_heads):
        own = slice(head * width, (head + 1) * width)
        for i in range(len(q)):
            weights = torch.softmax((k[:, own] * q[i, own]).sum(dim=1) / math.sqrt(width), dim=0)
            found[i, own] = (weights[:, None] * v[:, own]).sum(dim=0)
    return getattr(part, "out_proj" if hasattr(part, "out_proj") else "o_proj")(found)  # SAM's name, SAM 2's


def two_way(transformer, tokens: Tensor, cells: Tensor, places: Tensor) -> Tensor:
    first = tokens
    for number, layer in enumerate(transformer.layers):
        if number == 0:
            tokens = attend(layer.self_attn, tokens, tokens, tokens)
        else:
            tokens = tokens + attend(layer.self_attn, tokens + first, tokens + first, tokens)
        tokens = layer.layer_norm1(tokens)
        tokens = tokens + attend(layer.cross_attn_token_to_image, tokens + first, cells + places, cells)
        tokens = layer.layer_norm2(tokens)
        tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
        cells = cells + attend(layer.cross_attn_image_to_token, cells + places, tokens + first, tokens)
        cells = layer.layer_norm4(cells)
    found = attend(transformer.final_attn_token_to_image, tokens + first, cells + places, cells)
    return transformer.layer_norm_final_attn(tokens + found)


def place_code(gaussian: Tensor, places: Tensor) -> Tensor:
    angles = 2 * math.pi * ((2 * places - 1) @ gaussian)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


@torch.no_grad()
def test_tokens_follow_the_papers_formulas(network):
    library, embedding = network.network, network.encode(drawn(1, SIDE, SIDE))
    row, column = 10.0, 20.0
    decoded = network.decode(embedding, SpatialPrompt.of_points([[(row, column, 1)]]))
    encoder, decoder = library.prompt_encoder, library.mask_decoder
    gaussian = encoder.shared_embedding.positional_embedding
    point = place_code(gaussian, torch.tensor([[column + 0.5, row + 0.5]]) / SIDE)
    codes = encoder.point_embed
    point = point + (codes[1].weight if isinstance(codes, nn.ModuleList) else codes.weight[1:2])
    outputs = [decoder.iou_token.weight, decoder.mask_tokens.weight]
    if network.family == "sam2":
        outputs.insert(0, decoder.obj_score_token.weight)
    tokens = torch.cat([*outputs, point, encoder.not_a_point_embed.weight])
    image = embedding.maps["image"] + encoder.no_mask_embed.weight.reshape(-1, 1, 1)
    cells, grid = image.flatten(1).T, image.shape[1:]
    rows, columns = (torch.arange(n) + 0.5 for n in grid)
    places = torch.stack(
        [columns.repeat(grid[0]) / grid[1], rows.repeat_interleave(grid[1]) / grid[0]], dim=1
    )
    shared = library.shared_image_embedding.positional_embedding
    found = two_way(decoder.transformer, tokens, cells, place_code(shared, places))
    first = 0 if network.family == "sam" else 1
    assert torch.allclose(decoded.iou_token[0], found[first], atol=1e-5)
    assert torch.allclose(decoded.mask_tokens[0], found[first + 1 : first + 5], atol=1e-5)
