"""Random tiny SAMs of the transformers library: tokens, prompts and frames against the library's own parts."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from sfumato.errors import ConfigError, InputError
from sfumato.segmenters.promptable import Decoded, PromptableSegmenter
from sfumato.segmenters.promptable.tiny import tiny_sam, tiny_sam2
from sfumato.segmenters.promptable.transformers_sam import TransformersSam
from sfumato.types import SpatialPrompt

SIDE = 64
BUILDERS = {"sam": tiny_sam, "sam2": tiny_sam2}
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
FIELDS = "logits", "estimates", "iou_token", "mask_tokens"


@pytest.fixture(scope="module", params=list(BUILDERS))
def network(request, transformers) -> TransformersSam:
    return BUILDERS[request.param](seed=3)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def clicks(rows: int, points: int = 1, seed: int = 0) -> SpatialPrompt:
    signs = (drawn(rows, points, seed=seed + 1) > 0.3).long()
    return SpatialPrompt(drawn(rows, points, 2, seed=seed) * 40, signs)


def every_layout() -> SpatialPrompt:
    """One click, three clicks, a box, a box with a click, a mask, a mask with clicks; each as only itself."""
    prompts = SpatialPrompt.of_points(
        [
            [(12, 14, 1)],
            [(28, 40, 1), (12, 14, 0), (1, 2, 1)],
            [],
            [(28, 44, 1)],
            [],
            [(28, 44, 1), (3, 3, 0)],
        ]
    )
    corners = torch.full((6, 2, 2), torch.nan)
    corners[2:4] = torch.tensor([[[5.0, 7.0], [19.0, 21.0]], [[13.0, 29.0], [42.0, 58.0]]])
    mask = torch.full((6, SIDE // 4, SIDE // 4), torch.nan)
    mask[4:] = 8 * drawn(2, SIDE // 4, SIDE // 4) - 4
    return SpatialPrompt(prompts.coordinates, prompts.signs, corners, mask)


def same(one: Decoded, other: Decoded, tolerance: float = 1e-5) -> None:
    for name in FIELDS:
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=tolerance), name


def test_answers_are_the_librarys(network):
    """A square plane of the network's own side needs no scaling, so the library can be asked directly."""
    plane = drawn(3, SIDE, SIDE)
    decoded = network.decode(network.encode(plane), clicks(3, points=2))
    square = (plane[None] - MEAN[:, None, None]) / STD[:, None, None]
    points, labels = clicks(3, points=2).coordinates.flip(-1)[None], clicks(3, points=2).signs[None]
    with torch.no_grad():
        answer = network.network(square, input_points=points, input_labels=labels, multimask_output=True)
    assert torch.allclose(decoded.logits, answer.pred_masks[0], atol=1e-5)
    assert torch.allclose(decoded.estimates, answer.iou_scores[0], atol=1e-5)
    if network.family == "sam2":
        assert decoded.object_score is not None
        assert torch.allclose(decoded.object_score, answer.object_score_logits[0, :, 0], atol=1e-5)
    else:
        assert decoded.object_score is None


def test_every_layout_is_the_librarys_answer_to_it_alone(network):
    plane = drawn(3, SIDE, SIDE)
    decoded, prompts = network.decode(network.encode(plane), every_layout()), every_layout()
    square = (plane[None] - MEAN[:, None, None]) / STD[:, None, None]
    assert prompts.corners is not None
    assert prompts.mask is not None
    for i in range(len(prompts)):
        asked, clicked = {}, prompts.signs[i] >= 0
        if clicked.any():
            asked["input_points"] = prompts.coordinates[i][clicked].flip(-1)[None, None]
            asked["input_labels"] = prompts.signs[i][clicked][None, None]
        if not prompts.corners[i].isnan().any():
            asked["input_boxes"] = prompts.corners[i].flip(-1).reshape(1, 1, 4)
        if not prompts.mask[i].isnan().any():
            asked["input_masks"] = prompts.mask[i][None, None]
        with torch.no_grad():
            answer = network.network(square, **asked)
        assert torch.allclose(decoded.logits[i], answer.pred_masks[0, 0], atol=1e-4), i
        assert torch.allclose(decoded.estimates[i], answer.iou_scores[0, 0], atol=1e-5), i


def test_rows_are_for_themselves_and_keep_their_order(network):
    embedding, prompts = network.encode(drawn(1, 48, 64)), every_layout()
    together = network.decode(embedding, prompts)
    assert together.logits.std(dim=0).mean() > 0.01  # the prompts are told apart
    for i in range(len(prompts)):
        alone = network.decode(embedding, prompts[i])
        for name in FIELDS:
            assert torch.allclose(getattr(alone, name)[0], getattr(together, name)[i], atol=1e-5), (i, name)
    order = torch.tensor([3, 0, 5, 2, 4, 1])
    turned = network.decode(embedding, prompts[order])
    for name in FIELDS:
        assert torch.allclose(getattr(turned, name), getattr(together, name)[order], atol=1e-5)


def test_many_rows_are_decoded_in_pieces(network):
    embedding, prompts = network.encode(drawn(1, 48, 64)), clicks(150)
    decoded = network.decode(embedding, prompts)
    assert len(decoded.logits) == 150
    same(network.decode(embedding, prompts[torch.arange(60, 70)]), _rows(decoded, slice(60, 70)))


def _rows(decoded: Decoded, rows: slice) -> Decoded:
    fields = [getattr(decoded, name)[rows] for name in FIELDS]
    return Decoded(fields[0], fields[1], fields[2], fields[3], decoded.frame)


def test_planes_and_prompts_are_scaled_as_sams_processor_does(transformers):
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    images = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE})
    plane = (drawn(3, 3, 40, 30, seed=2).mean(dim=0) * 255).round() / 255
    picture = (plane * 255).round().byte().permute(1, 2, 0).numpy()
    asked = transformers.SamProcessor(images)(
        images=picture,
        input_points=[[[[5.0, 6.0]]]],
        input_labels=[[[1]]],
        input_boxes=[[[3.0, 4.0, 20.0, 30.0]]],
        return_tensors="pt",
    )
    network = tiny_sam()
    embedding = network.encode(plane)
    prompt = SpatialPrompt(
        torch.tensor([[[6.0, 5.0]]]), torch.tensor([[1]]), torch.tensor([[[4.0, 3.0], [30.0, 20.0]]])
    )
    inputs = network._inputs(embedding.frame, prompt, 1, 1)
    assert torch.allclose(inputs["input_points"].double(), asked["input_points"])
    assert torch.allclose(inputs["input_boxes"].double(), asked["input_boxes"])
    assert tuple(embedding.frame.shown) == tuple(asked["reshaped_input_sizes"][0].tolist())
    # The processor rounds the scaled picture to whole numbers, half a step of 255 at most, before it normalises.
    square = embedding.frame.square(plane)
    assert (square - asked["pixel_values"]).abs().max() < 1.01 / 255 / 0.224


def test_sam_2_stretches_and_sam_pads(transformers):
    plane = drawn(1, 32, 64)
    assert tiny_sam2().encode(plane).frame.shown == (64, 64)
    assert tiny_sam().encode(plane).frame.shown == (32, 64)


def test_a_saved_network_is_the_same_and_its_preprocessor_is_obeyed(network, tmp_path):
    network.network.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    again = TransformersSam(str(tmp_path), side=SIDE)
    plane = drawn(1, 40, 64)
    assert isinstance(again, PromptableSegmenter)
    assert again.card.weights == network.card.weights
    assert again.card.name == f"hf:{tmp_path}"
    assert again.card.licence == "apache-2.0"
    same(again.decode(again.encode(plane), clicks(2)), network.decode(network.encode(plane), clicks(2)))
    size = {"longest_edge": SIDE} if network.family == "sam2" else {"height": SIDE, "width": SIDE}
    said = {"size": size, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    other = TransformersSam(str(tmp_path)).encode(plane)
    assert other.frame.stretch == (network.family == "sam")
    square = other.frame.square(plane, (0.0,) * 3, (1.0,) * 3)
    found = network.network.get_image_embeddings(square)
    assert torch.allclose(
        other.maps["image"], (found if isinstance(found, Tensor) else found[-1])[0], atol=1e-5
    )


def test_threads_do_not_see_each_others_tokens(network):
    embedding = network.encode(drawn(1, SIDE, SIDE))
    asked = [clicks(2, seed=i) for i in range(16)]
    alone = [network.decode(embedding, prompts) for prompts in asked]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(pool.map(lambda p: network.decode(embedding, p), asked), alone, strict=True):
            same(one, other)


def test_what_does_not_fit_is_refused(network, transformers):
    with pytest.raises(ConfigError, match="side=128, expected 64"):
        TransformersSam(network.network, side=128)
    with pytest.raises(ConfigError, match="Linear cannot be prompted"):
        TransformersSam(nn.Linear(2, 2))
    embedding = network.encode(drawn(1, SIDE, SIDE))
    wrong = SpatialPrompt(
        torch.zeros(1, 0, 2), torch.zeros(1, 0, dtype=torch.long), None, torch.zeros(1, 8, 8)
    )
    with pytest.raises(InputError, match=r"Masks of \(8, 8\) cells"):
        network.decode(embedding, wrong)
    other = tiny_sam(seed=8)
    with pytest.raises(InputError, match="encode the plane again"):
        other.decode(embedding, clicks(1))
    with pytest.raises(InputError, match="1 or 3 channels"):
        network.encode(drawn(SIDE, SIDE))


def test_a_network_that_sorts_its_hypotheses_is_refused(transformers):
    network = nn.Module()
    network.config = transformers.SamHQConfig()
    with pytest.raises(ConfigError, match="sorts its hypotheses"):
        TransformersSam(network)


def test_edgetam_is_prompted_as_sam_2_is(transformers):
    """Its own trunk comes from another library; here it stands on SAM 2's."""
    parts = tiny_sam2().network.config
    config = transformers.EdgeTamConfig(
        vision_config=parts.vision_config,
        prompt_encoder_config=parts.prompt_encoder_config.to_dict(),
        mask_decoder_config=parts.mask_decoder_config.to_dict(),
    )
    network = TransformersSam(transformers.EdgeTamModel(config))
    decoded = network.decode(network.encode(drawn(1, 48, SIDE)), every_layout())
    assert network.card.family == "sam2"
    assert tuple(decoded.mask_tokens.shape) == (6, 4, 256)
    assert decoded.object_score is not None


def test_a_callers_autocast_and_half_weights_round_nothing(network, transformers):
    plane = drawn(1, 48, SIDE)
    plain = network.decode(network.encode(plane), clicks(2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = network.decode(network.encode(plane), clicks(2))
    same(plain, inside, tolerance=0.0)
    assert TransformersSam(tiny_sam().network.half()).encode(plane).maps["image"].dtype == torch.float32


def test_decoding_needs_no_gradient_and_freezes_the_network(network):
    decoded = network.decode(network.encode(drawn(1, SIDE, SIDE)), clicks(1))
    assert not decoded.logits.requires_grad
    assert not decoded.mask_tokens.requires_grad
    assert not network.network.training
    assert not any(parameter.requires_grad for parameter in network.network.parameters())
